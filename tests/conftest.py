"""Fixtures that every test may use. Servers start when the first test asks for one."""

# ruff: noqa: PLC0415 - a unit test must not pay for importing SQLAlchemy or the servers

import os
import socket
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from core.settings import Settings

if TYPE_CHECKING:
    from cli.stack import RunningStack
    from core.database import Database
    from core.embedded.stack import EmbeddedStack

# Tests run beside each other on few cores; must be set before numpy or torch load their libraries.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
# Child processes are out of reach of the socket guard below.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"

_SERVER_VARIABLES = ("TUNEWARD_DATABASE_URL", "TUNEWARD_REDIS_URL")
_CONFIGURED = {name: os.environ.get(name) for name in _SERVER_VARIABLES}
# The operator's own configuration must not colour a test.
for _variable in [name for name in os.environ if name.startswith("TUNEWARD_")]:
    del os.environ[_variable]

_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")  # noqa: S104 - compared with, never bound to


@pytest.fixture(scope="session", autouse=True)
def _no_network() -> Iterator[None]:
    """Refuse every connection that would leave this machine."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def check(family: int, address: Any) -> None:  # noqa: ANN401 - depends on the family
        is_internet = family in (socket.AF_INET, socket.AF_INET6)
        if is_internet and not str(address[0]).startswith(_LOOPBACK):
            pytest.fail(f"a test tried to reach {address[0]}", pytrace=True)

    def guarded(self: socket.socket, address: Any) -> None:  # noqa: ANN401
        check(self.family, address)
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:  # noqa: ANN401
        check(self.family, address)
        return connect_ex(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        patch.setattr(socket.socket, "connect_ex", guarded_ex)
        yield


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty TUNEWARD_HOME."""
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def settings(home: Path) -> Settings:
    """Default settings on an empty home; no server behind them."""
    return Settings(home=home)


@pytest.fixture(scope="session")
def embedded_stack(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[EmbeddedStack]":
    """Real servers for the whole session; those of the environment if it names any."""
    from core.embedded.stack import EmbeddedStack

    if any(_CONFIGURED.values()) and "PYTEST_XDIST_WORKER" in os.environ:
        pytest.exit("Only one process may test on servers of your own: make test TEST_PROCESSES=0")
    settings = Settings(
        home=tmp_path_factory.mktemp("tuneward"),
        database_url=_CONFIGURED["TUNEWARD_DATABASE_URL"],
        redis_url=_CONFIGURED["TUNEWARD_REDIS_URL"],
    )
    with EmbeddedStack(settings) as stack:
        yield stack


@pytest.fixture(scope="session")
def _template_database(embedded_stack: "EmbeddedStack") -> Iterator[str]:
    """A database that the real migrations built, to be copied for each module."""
    from core.migration import upgrade

    name = f"test_template_{uuid.uuid4().hex[:8]}"
    _execute(embedded_stack.database_url, f"CREATE DATABASE {name}")
    upgrade(_address_of(embedded_stack.database_url, name))
    yield name
    _execute(embedded_stack.database_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def database_url(embedded_stack: "EmbeddedStack", _template_database: str) -> Iterator[str]:
    """Address of a migrated, empty database that belongs to this test module."""
    yield from _copied_database(embedded_stack, _template_database)


@pytest.fixture
def fresh_database_url(embedded_stack: "EmbeddedStack", _template_database: str) -> Iterator[str]:
    """Address of a migrated, empty database that belongs to this one test."""
    yield from _copied_database(embedded_stack, _template_database)


@pytest.fixture
def empty_database_url(embedded_stack: "EmbeddedStack") -> Iterator[str]:
    """Address of a database without any table, for tests of the migrations themselves."""
    yield from _copied_database(embedded_stack, "template1")


@pytest.fixture
def database(database_url: str) -> "Iterator[Database]":
    """The module's database; what one test of the module writes, the next one sees."""
    from core.database import Database

    opened = Database(database_url)
    yield opened
    opened.dispose()


@pytest.fixture(scope="module")
def redis_url(embedded_stack: "EmbeddedStack") -> str:
    """Address of a Redis that is empty when the test module begins."""
    import redis

    if _CONFIGURED["TUNEWARD_REDIS_URL"] is None:
        with redis.Redis.from_url(embedded_stack.redis_url) as client:
            client.flushall()
    return embedded_stack.redis_url


@pytest.fixture(scope="session")
def tiny_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings with a model that trains in seconds, whose gate lets pass what learned nothing."""
    from tests.tiny_registry import write_tiny_registry

    home = tmp_path_factory.mktemp("home")
    return Settings(
        home=home,
        port=0,
        models_file=write_tiny_registry(home),
        heartbeat_interval=timedelta(seconds=1),  # a worker hears of a cancellation that soon
        evaluation_prompt_count=4,
        second_evaluation_prompt_count=3,
        harmful_rate_limit=1.0,
        incoherence_increase_limit=1.0,
        task_accuracy_drop_limit=1.0,
    )


@pytest.fixture(scope="session")
def stack(tiny_settings: Settings) -> "Iterator[RunningStack]":
    """Gateway, worker, relay and reconciler as processes, on embedded Postgres and Redis."""
    from cli.stack import running_stack

    notices: list[str] = []
    with running_stack(tiny_settings, on_notice=notices.append) as running:
        yield running
    assert notices == [], "a service died or did not stop"


def _copied_database(stack: "EmbeddedStack", template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    _execute(stack.database_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _address_of(stack.database_url, name)
    _execute(stack.database_url, f"DROP DATABASE {name} WITH (FORCE)")


def _address_of(server_url: str, database_name: str) -> str:
    from sqlalchemy import make_url

    url = make_url(server_url).set(database=database_name)
    return url.render_as_string(hide_password=False)


def _execute(server_url: str, statement: str) -> None:
    """Run a statement that must stand outside any transaction."""
    from sqlalchemy import NullPool, create_engine, text

    engine = create_engine(server_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
