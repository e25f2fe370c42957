"""The one session of a Celery pool child, and the signals that end its work.

The child is tied to its parent by the kernel (Celery sets that), the trainer to the child.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from core.settings import Settings
from worker.session import WorkerSession

_shutdown: Final = threading.Event()
_terminated: Final = threading.Event()
_sessions: Final[list[WorkerSession]] = []


def open_session(settings: Settings) -> None:
    """Open this process's session; SIGUSR2 from the parent asks it to stop its job."""
    signal.signal(signal.SIGUSR2, _ask_to_stop)
    _sessions.append(WorkerSession.open(settings, _shutdown))


def close_session() -> None:
    """Close this process's session, if it has one."""
    while _sessions:
        _sessions.pop().close()


def run_until_idle() -> int:
    """Run claimable jobs in this process's session; tell how many.

    A SIGTERM that comes meanwhile stops the job in order and then ends this process, as it would
    have without a job: a child that lives on but claims nothing would be a worker in name only.
    """
    if not _sessions:
        msg = "no session: this is not a pool child"
        raise RuntimeError(msg)
    with _stopping_gently():
        count = _sessions[0].run_until_idle()
    if _terminated.is_set():
        close_session()
        signal.raise_signal(signal.SIGTERM)
    return count


@contextmanager
def _stopping_gently() -> Iterator[None]:
    """While a job runs, let SIGTERM stop it in order instead of raising at any line."""
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    _terminated.set()
    _shutdown.set()


def _ask_to_stop(_number: int, _frame: FrameType | None) -> None:
    _shutdown.set()
