"""One server process: started, watched until it is ready, stopped."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from core.embedded import binaries
from core.embedded.account import ServerAccount
from core.embedded.errors import EmbeddedServerError, ServerStartError

_POLL_SECONDS = 0.02
_LOG_LIMIT_BYTES = 5 * 1024 * 1024


class ServerProcess:
    """A server that dies with us, even when we are killed with SIGKILL.

    The kernel sends `parent_death_signal` when the *thread* that started the server ends, so only
    the main thread may start one. The server gets its own session: Ctrl-C in a terminal reaches
    us alone, and we decide when the server stops.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log_path: Path,
        account: ServerAccount,
        parent_death_signal: str,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._command = list(command)
        self._account = account
        self._parent_death_signal = parent_death_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise EmbeddedServerError(f"{self.name} is not running.")
        return self._process.pid

    def is_running(self) -> bool:
        """Whether the server process exists."""
        return self._process is not None and self._process.poll() is None

    def start(self, is_ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Start the server and wait until it answers.

        Raises:
            ServerStartError: It ended, or did not answer in time.
        """
        self._spawn()
        deadline = time.monotonic() + timeout_seconds
        while not is_ready():
            if not self.is_running():
                code = self._process.returncode if self._process else None
                raise ServerStartError(self.name, f"ended at start (code {code})", self.log_path)
            if time.monotonic() > deadline:
                self.kill()
                reason = f"was not ready within {timeout_seconds:.0f} s"
                raise ServerStartError(self.name, reason, self.log_path)
            time.sleep(_POLL_SECONDS)

    def stop(self, signals: Sequence[signal.Signals], grace_seconds: float) -> None:
        """Ask the server to end, with each signal in turn, and kill it if it does not."""
        if self._process is None:
            return
        for number in signals:
            if self._process.poll() is None:
                self._process.send_signal(number)
            try:
                self._process.wait(grace_seconds)
            except subprocess.TimeoutExpired:
                continue
            return
        self.kill()

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _spawn(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            raise EmbeddedServerError(f"{self.name} must be started from the main thread.")
        wrapper = [binaries.setpriv(), f"--pdeathsig={self._parent_death_signal}"]
        with self._open_log() as log:
            self._process = subprocess.Popen(
                [*wrapper, *self._account.setpriv_arguments, "--", *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )

    def _open_log(self) -> BinaryIO:
        """Append to the log, starting over when it has grown large."""
        too_large = self.log_path.exists() and self.log_path.stat().st_size > _LOG_LIMIT_BYTES
        return self.log_path.open("wb" if too_large else "ab")
