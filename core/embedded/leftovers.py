"""Traces of servers whose owner was killed: processes that are still leaving, socket folders."""

import contextlib
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path

_LEAVE_SECONDS = 15.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ServerRecord:
    """One running server, as its owner wrote it down."""

    pid: int
    command_marker: str
    socket_folder: str


def command_line_of(pid: int) -> str | None:
    """Return a process's command line, or None if there is no such process."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return raw.replace(b"\0", b" ").decode(errors="replace")


def clear(record: ServerRecord) -> None:
    """Wait until an orphaned server has gone, ending it if it stays, and drop its socket folder.

    A process id may belong to another program by now; the command line tells.
    """
    deadline = time.monotonic() + _LEAVE_SECONDS
    while _is_alive(record):
        if time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(record.pid, signal.SIGKILL)
        time.sleep(_POLL_SECONDS)
    shutil.rmtree(record.socket_folder, ignore_errors=True)


def _is_alive(record: ServerRecord) -> bool:
    command_line = command_line_of(record.pid)
    return command_line is not None and record.command_marker in command_line
