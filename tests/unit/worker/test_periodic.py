"""The loop of the relay and the reconciler."""

import threading
from datetime import timedelta

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
