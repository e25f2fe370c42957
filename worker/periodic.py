"""A loop that outlives the outages of what it talks to."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

MAX_BACKOFF: Final = timedelta(seconds=30)

_log = structlog.get_logger(__name__)


def run_periodically(
    work: Callable[[], object],
    interval: timedelta,
    stop: threading.Event,
    *,
    name: str,
    max_backoff: timedelta = MAX_BACKOFF,
) -> None:
    """Do the work again and again until told to stop; after failures wait longer each time."""
    failures = 0
    while not stop.is_set():
        try:
            work()
        except Exception as error:  # noqa: BLE001  (the boundary of a process that must go on)
            failures += 1
            _log.warning(f"{name}_failed", error=type(error).__name__, failures=failures)
        else:
            failures = 0
        wait = min(interval * 2**failures, max(interval, max_backoff))
        stop.wait(wait.total_seconds())
