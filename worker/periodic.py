"""A loop that outlives the outages of what it talks to."""

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final

import structlog

from core.settings import Settings

MAX_BACKOFF: Final = timedelta(seconds=30)
MOST_DOUBLINGS: Final = 10

_log = structlog.get_logger(__name__)


def heartbeat_file(settings: Settings, name: str) -> Path:
    """Say which file a loop of this name touches after every good round."""
    return settings.home / "heartbeats" / name


def run_periodically(
    work: Callable[[], object],
    interval: timedelta,
    stop: threading.Event,
    *,
    name: str,
    heartbeat: Path | None = None,
    max_backoff: timedelta = MAX_BACKOFF,
) -> None:
    """Do the work again and again until told to stop; after failures wait longer each time.

    Args:
        work: One round.
        interval: From the end of a good round to the next one.
        stop: Ends the loop, at once if it waits.
        name: For the log.
        heartbeat: Touched after every good round, for health checks.
        max_backoff: Longest wait after failures.
    """
    failures = 0
    while not stop.is_set():
        try:
            work()
        except Exception as error:  # noqa: BLE001  (the boundary of a process that must go on)
            failures += 1
            _log.warning(f"{name}_failed", error=type(error).__name__, failures=failures)
        else:
            failures = 0
            if heartbeat is not None:
                _beat(heartbeat)
        doubled = interval * 2 ** min(failures, MOST_DOUBLINGS)
        wait = min(doubled, max(interval, max_backoff))
        stop.wait(wait.total_seconds())


def _beat(heartbeat: Path) -> None:
    """A file that cannot be touched grows old, which says enough; the work itself was done."""
    with suppress(OSError):
        heartbeat.parent.mkdir(parents=True, exist_ok=True)
        heartbeat.touch()
