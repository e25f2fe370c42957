"""A pool child that is told to go while it works."""

import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from worker import pool_child


class FakeSession:
    """A session whose work is interrupted by a signal."""

    def __init__(self, number: signal.Signals | None) -> None:
        self._number = number
        self.closed = False

    def run_until_idle(self) -> int:
        if self._number is not None:
            signal.raise_signal(self._number)
        return 1

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def deaths() -> Iterator[list[int]]:
    """Collect the SIGTERMs that would have ended the process."""
    found: list[int] = []

    def die(number: int, _frame: FrameType | None) -> None:
        found.append(number)

    previous = signal.signal(signal.SIGTERM, die)
    other = signal.signal(signal.SIGUSR2, pool_child._ask_to_stop)
    yield found
    signal.signal(signal.SIGTERM, previous)
    signal.signal(signal.SIGUSR2, other)
    for event in (pool_child._shutdown, pool_child._terminated):
        event.clear()
    pool_child._sessions.clear()


def work(number: signal.Signals | None) -> FakeSession:
    session = FakeSession(number)
    pool_child._sessions.append(session)  # type: ignore[arg-type]
    pool_child.run_until_idle()
    return session


def test_a_child_that_was_terminated_while_working_ends_after_its_job(deaths: list[int]) -> None:
    session = work(signal.SIGTERM)

    assert deaths == [signal.SIGTERM]
    assert session.closed


@pytest.mark.parametrize("number", [None, signal.SIGUSR2])
def test_a_child_that_was_not_terminated_stays(
    deaths: list[int], number: signal.Signals | None
) -> None:
    session = work(number)

    assert deaths == []
    assert not session.closed
