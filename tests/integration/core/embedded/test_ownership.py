"""One process owns the servers of a home; others attach; nothing outlives a killed owner."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from core.embedded import leftovers
from core.embedded.errors import EmbeddedServerError, OwnerGoneError
from core.embedded.ownership import StackState
from core.embedded.stack import EmbeddedStack
from core.settings import Settings

_OWNER = """
import sys
from pathlib import Path
from core.embedded.stack import EmbeddedStack
from core.settings import Settings

with EmbeddedStack(Settings(home=Path(sys.argv[1]))) as stack:
    print(stack.database_url, flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_owner(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process that owns the servers of `home`, and its database address."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        address = next(line for line in process.stdout if line.startswith("postgresql"))
        yield process, address.strip()
        if process.poll() is None:
            process.communicate(timeout=30)


def state_of(home: Path) -> StackState:
    state = StackState.read(home / "embedded" / "state.json")
    assert state is not None
    return state


def is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def wait_until_gone(pids: list[int], seconds: float) -> list[int]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(is_alive(pid) for pid in pids):
        time.sleep(0.05)
    return [pid for pid in pids if is_alive(pid)]


def test_a_second_process_attaches_to_the_servers_of_the_first(settings: Settings) -> None:
    with another_owner(settings.home) as (owner, address):
        with EmbeddedStack(settings) as attached:
            seen = (attached.is_owner, attached.database_url)

        still_running = [is_alive(server.pid) for server in state_of(settings.home).servers]
        assert seen == (False, address)
        assert still_running == [True, True]
        assert owner.poll() is None


def test_an_attached_process_may_not_restart_what_it_does_not_own(settings: Settings) -> None:
    with (
        another_owner(settings.home),
        EmbeddedStack(settings) as attached,
        pytest.raises(EmbeddedServerError, match="does not run"),
    ):
        attached.restart_postgres()


@pytest.mark.parametrize("number", [signal.SIGKILL, None], ids=["killed", "stopped"])
def test_an_attached_process_notices_that_the_owner_has_ended(
    settings: Settings, number: signal.Signals | None
) -> None:
    with another_owner(settings.home) as (owner, _), EmbeddedStack(settings) as attached:
        while_it_runs = attached.revive()
        if number is None:
            owner.communicate(timeout=30)
        else:
            owner.send_signal(number)
        owner.wait()

        assert while_it_runs == []
        with pytest.raises(OwnerGoneError, match=f"Process {owner.pid}"):
            attached.revive()


def test_servers_die_with_an_owner_that_is_killed(settings: Settings) -> None:
    with another_owner(settings.home) as (owner, _):
        servers = state_of(settings.home).servers
        owner.send_signal(signal.SIGKILL)
        owner.wait()

        left = wait_until_gone([server.pid for server in servers], seconds=15)

    assert left == []
    for server in servers:
        leftovers.clear(server)


def test_the_next_owner_starts_at_once_after_a_killed_one(settings: Settings) -> None:
    with another_owner(settings.home) as (owner, address):
        with psycopg.connect(address.replace("+psycopg", "", 1)) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
        old = state_of(settings.home)
        owner.send_signal(signal.SIGKILL)
        owner.wait()

        with EmbeddedStack(settings) as stack:
            with psycopg.connect(stack.database_url.replace("+psycopg", "", 1)) as connection:
                rows = connection.execute("SELECT number FROM kept").fetchall()
            is_owner = stack.is_owner

    assert rows == [(7,)]
    assert is_owner
    assert not any(Path(server.socket_folder).exists() for server in old.servers)


def test_the_next_owner_starts_when_owner_and_servers_were_all_killed(settings: Settings) -> None:
    with another_owner(settings.home) as (owner, _):
        servers = state_of(settings.home).servers
        owner.send_signal(signal.SIGSTOP)
        for server in servers:
            subprocess.run(["kill", "-KILL", str(server.pid)], check=True)
        owner.send_signal(signal.SIGKILL)
        owner.wait()

        with EmbeddedStack(settings) as stack:
            assert stack.is_owner


def test_a_pid_file_that_names_an_unrelated_process_does_not_block_the_start(
    settings: Settings,
) -> None:
    with EmbeddedStack(settings) as stack:
        pid_file = settings.home / "embedded" / "postgres" / "postmaster.pid"
        lines = pid_file.read_text(encoding="ascii").split("\n")
        stack.kill_postgres()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]), encoding="ascii")

        with EmbeddedStack(settings) as stack:
            is_owner = stack.is_owner
        bystander_lives = bystander.poll() is None
        bystander.kill()

    assert is_owner
    assert bystander_lives


def test_an_address_that_only_the_owner_was_given_is_asked_for(settings: Settings) -> None:
    partly = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with EmbeddedStack(partly):
        pass
    state = StackState(1, "postgresql+psycopg://postgres@/tuneward?host=/nowhere", None, ())
    held = EmbeddedStack(partly)

    with held:
        state.write(settings.home / "embedded" / "state.json")
        with pytest.raises(EmbeddedServerError, match="Redis configured elsewhere"):
            EmbeddedStack(settings).start()


def test_a_server_is_never_started_from_a_thread_that_may_end_before_us(
    settings: Settings,
) -> None:
    raised: list[BaseException] = []

    def start() -> None:
        try:
            EmbeddedStack(settings).start()
        except EmbeddedServerError as error:
            raised.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()

    assert "main thread" in str(raised[0])
