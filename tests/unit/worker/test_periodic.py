"""The loop of the relay and the reconciler."""

import threading
from datetime import timedelta
from pathlib import Path

from worker.periodic import run_periodically

INSTANT = timedelta(milliseconds=1)


def test_it_goes_on_after_failures_and_stops_when_told() -> None:
    stop = threading.Event()
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        if len(calls) == 4:
            stop.set()
        elif len(calls) < 3:
            raise ConnectionError

    run_periodically(work, INSTANT, stop, name="test", max_backoff=INSTANT)

    assert len(calls) == 4


def test_it_does_nothing_when_already_told_to_stop() -> None:
    stop = threading.Event()
    stop.set()

    run_periodically(lambda: 1 / 0, INSTANT, stop, name="test")


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
        work, INSTANT, stop, name="loop", heartbeat=heartbeat, max_backoff=timedelta(0)
    )
    return seen


def test_only_a_good_round_touches_the_heartbeat(tmp_path: Path) -> None:
    seen = run_rounds([OSError("away"), None, None], tmp_path / "heartbeats" / "loop")

    assert seen == [False, False, True]


def test_a_heartbeat_that_cannot_be_written_does_not_stop_the_work(tmp_path: Path) -> None:
    blocked = tmp_path / "a_file"
    blocked.touch()

    assert len(run_rounds([None, None], blocked / "loop")) == 2
