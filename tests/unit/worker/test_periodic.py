"""The loop under relay and reconciler, and the file that shows that it turns."""

import threading
from datetime import timedelta
from pathlib import Path

from worker.periodic import run_periodically

AT_ONCE = timedelta(milliseconds=1)


def run_rounds(outcomes: list[Exception | None], heartbeat: Path) -> list[bool]:
    """Run one round per outcome; tell before each round whether the heartbeat was there."""
    stop = threading.Event()
    seen: list[bool] = []

    def work() -> None:
        seen.append(heartbeat.exists())
        outcome = outcomes[len(seen) - 1]
        if len(seen) == len(outcomes):
            stop.set()
        if outcome is not None:
            raise outcome

    run_periodically(
        work, AT_ONCE, stop, name="loop", heartbeat=heartbeat, max_backoff=timedelta(0)
    )
    return seen


def test_only_a_good_round_touches_the_heartbeat(tmp_path: Path) -> None:
    heartbeat = tmp_path / "heartbeats" / "loop"

    seen = run_rounds([OSError("away"), None, None], heartbeat)

    assert seen == [False, False, True]


def test_a_heartbeat_that_cannot_be_written_does_not_stop_the_work(tmp_path: Path) -> None:
    blocked = tmp_path / "a_file"
    blocked.touch()

    seen = run_rounds([None, None], blocked / "loop")

    assert len(seen) == 2
