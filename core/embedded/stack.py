"""The embedded stack: a real Postgres and a real Redis wherever none is configured.

The first process with a TUNEWARD_HOME owns its servers; later ones attach to them. Servers die
with their owner. Use it from the main thread, and use it as a context manager.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import psycopg
import redis
import structlog

from core.embedded import leftovers
from core.embedded.errors import EmbeddedServerError, OwnerGoneError
from core.embedded.leftovers import ServerRecord
from core.embedded.ownership import OwnershipLock, StackState
from core.embedded.postgres import EmbeddedPostgres
from core.embedded.redis import EmbeddedRedis
from core.settings import Settings

_ATTACH_SECONDS = 90.0
_POLL_SECONDS = 0.1
_log = structlog.get_logger(__name__)


class _Server(Protocol):
    name: str

    @property
    def pid(self) -> int: ...
    @property
    def command_marker(self) -> str: ...
    def is_running(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class EmbeddedStack:
    """Starts what `settings` leave unconfigured, and knows both addresses.

    Args:
        settings: `home` holds the data; a server is embedded when its address is None.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.home / "embedded"
        self._state_path = self._folder / "state.json"
        self._lock = OwnershipLock(self._folder / "lock")
        self._postgres: EmbeddedPostgres | None = None
        self._redis: EmbeddedRedis | None = None
        self._socket_folders: dict[str, Path] = {}
        self._attached_to: int | None = None
        self._database_url = settings.database_url
        self._redis_url = settings.redis_url

    def __enter__(self) -> Self:
        """Start the stack."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the stack."""
        self.stop()

    @property
    def database_url(self) -> str:
        """Address of Postgres, configured or embedded."""
        return _known(self._database_url)

    @property
    def redis_url(self) -> str:
        """Address of Redis, configured or embedded."""
        return _known(self._redis_url)

    @property
    def is_owner(self) -> bool:
        """Whether this process runs the servers, rather than using another process's."""
        return self._lock.is_held

    @property
    def attached_to(self) -> int | None:
        """The process that runs the servers this one uses; None if this one runs them."""
        return self._attached_to

    def apply_to(self, settings: Settings) -> Settings:
        """Return a copy of the settings with both addresses filled in."""
        update = {"database_url": self.database_url, "redis_url": self.redis_url}
        return settings.model_copy(update=update)

    def environment(self) -> dict[str, str]:
        """Variables that make a child process use this stack."""
        return {
            "TUNEWARD_HOME": str(self._settings.home),
            "TUNEWARD_DATABASE_URL": self.database_url,
            "TUNEWARD_REDIS_URL": self.redis_url,
        }

    def start(self) -> None:
        """Own the servers, or attach to their owner; returns when they answer.

        Raises:
            EmbeddedServerError: A server is missing, does not start, or its owner hangs.
        """
        if self._settings.database_url and self._settings.redis_url:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + _ATTACH_SECONDS
        while not self._lock.acquire():
            if self._attach():
                return
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"Another process holds {self._folder / 'lock'}, but the servers it describes "
                    f"in {self._state_path} do not answer. Stop that process, or use another "
                    "TUNEWARD_HOME."
                )
            time.sleep(_POLL_SECONDS)
        try:
            self._start_servers()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the servers if we own them; repeating it does no harm."""
        if not self._lock.is_held:
            return
        for server in self._servers():
            server.stop()
        for folder in self._socket_folders.values():
            shutil.rmtree(folder, ignore_errors=True)
        self._postgres, self._redis = None, None
        self._socket_folders.clear()
        self._state_path.unlink(missing_ok=True)
        self._lock.release()

    def revive(self) -> list[str]:
        """Start our servers that have ended again, at the same address; return their names.

        Raises:
            OwnerGoneError: The servers were another process's, and it has ended.
            ServerStartError: One does not come back.
        """
        if self._attached_to is not None:
            self._require_owner(self._attached_to)
        ended = [server for server in self._servers() if not server.is_running()]
        for server in ended:
            self._restart(server)
        return [server.name for server in ended]

    def restart_postgres(self) -> None:
        """Stop Postgres cleanly if it runs, and start it at the same address."""
        self._restart(self._owned_postgres())

    def restart_redis(self) -> None:
        """Stop Redis cleanly if it runs, and start it at the same address."""
        self._restart(self._owned_redis())

    def kill_postgres(self) -> None:
        """End Postgres as a crash would; `restart_postgres` brings it back."""
        self._owned_postgres().kill()

    def kill_redis(self) -> None:
        """End Redis as a crash would; `restart_redis` brings it back."""
        self._owned_redis().kill()

    def _start_servers(self) -> None:
        self._clear_leftovers()
        if self._settings.database_url is None:
            self._postgres = EmbeddedPostgres(self._folder, self._new_socket_folder("Postgres"))
            self._database_url = self._postgres.url
        if self._settings.redis_url is None:
            self._redis = EmbeddedRedis(self._folder, self._new_socket_folder("Redis"))
            self._redis_url = self._redis.url
        for server in self._servers():
            began = time.monotonic()
            server.start()
            seconds = round(time.monotonic() - began, 2)
            _log.info("embedded server ready", server=server.name, seconds=seconds)
        self._write_state()

    def _new_socket_folder(self, name: str) -> Path:
        """A short path: the kernel allows a socket's path about 100 bytes."""
        self._socket_folders[name] = Path(tempfile.mkdtemp(prefix="tuneward-"))
        return self._socket_folders[name]

    def _servers(self) -> Iterable[_Server]:
        return [server for server in (self._postgres, self._redis) if server is not None]

    def _restart(self, server: _Server) -> None:
        server.stop()
        server.start()
        self._write_state()

    def _write_state(self) -> None:
        records = tuple(
            ServerRecord(server.pid, server.command_marker, str(self._socket_folders[server.name]))
            for server in self._servers()
        )
        embedded_database = self._postgres.url if self._postgres else None
        embedded_redis = self._redis.url if self._redis else None
        StackState(os.getpid(), embedded_database, embedded_redis, records).write(self._state_path)

    def _clear_leftovers(self) -> None:
        left = StackState.read(self._state_path)
        for record in left.servers if left else ():
            leftovers.clear(record)
        self._state_path.unlink(missing_ok=True)

    def _attach(self) -> bool:
        """Use the owner's servers, if they are all there and answer."""
        state = StackState.read(self._state_path)
        if state is None:
            return False
        database_url = self._settings.database_url or state.database_url
        redis_url = self._settings.redis_url or state.redis_url
        if database_url is None or redis_url is None:
            missing = "database" if database_url is None else "Redis"
            raise EmbeddedServerError(
                f"Process {state.owner_pid} runs the embedded servers of {self._settings.home}, "
                f"with its {missing} configured elsewhere. Give this process the same address."
            )
        if not (_postgres_answers(state.database_url) and _redis_answers(state.redis_url)):
            return False
        self._database_url, self._redis_url = database_url, redis_url
        self._attached_to = state.owner_pid
        _log.info("attached to embedded servers", owner_pid=state.owner_pid)
        return True

    def _require_owner(self, pid: int) -> None:
        """The state names another owner, or none, or the kernel has freed a killed one's lock."""
        state = StackState.read(self._state_path)
        is_free = self._lock.acquire()
        if is_free:
            self._lock.release()
        if is_free or state is None or state.owner_pid != pid:
            raise OwnerGoneError(
                f"Process {pid}, whose Postgres and Redis this one used, has ended.",
                hint="start this one again: it then runs servers of its own on the same data",
            )

    def _owned_postgres(self) -> EmbeddedPostgres:
        if self._postgres is None:
            raise EmbeddedServerError("This process does not run the embedded Postgres.")
        return self._postgres

    def _owned_redis(self) -> EmbeddedRedis:
        if self._redis is None:
            raise EmbeddedServerError("This process does not run the embedded Redis.")
        return self._redis


def _known(url: str | None) -> str:
    if url is None:
        raise EmbeddedServerError("The embedded stack is not started.")
    return url


def _postgres_answers(url: str | None) -> bool:
    if url is None:
        return True
    try:
        psycopg.connect(url.replace("+psycopg", "", 1), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _redis_answers(url: str | None) -> bool:
    if url is None:
        return True
    client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()
