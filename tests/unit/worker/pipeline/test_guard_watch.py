"""A guard whose time is taken does what it does without."""

from unittest.mock import Mock, sentinel

import pytest

from worker.pipeline.guard_watch import TimedGuard


def test_the_time_of_corrections_is_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter((10.0, 11.5, 20.0, 20.25))
    monkeypatch.setattr("worker.pipeline.guard_watch.time.monotonic", lambda: next(ticks))
    guard = Mock()
    guard.correction.side_effect = [sentinel.correction, RuntimeError]
    timed = TimedGuard(guard)

    given = timed.correction(1, sentinel.source, sentinel.gradients)
    with pytest.raises(RuntimeError):
        timed.correction(2, sentinel.source, sentinel.gradients)

    assert given is sentinel.correction
    guard.correction.assert_called_with(2, sentinel.source, sentinel.gradients)
    assert timed.seconds == 1.75


def test_making_a_guard_takes_time_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter((1.0, 3.5, 4.0))
    monkeypatch.setattr("worker.pipeline.guard_watch.time.monotonic", lambda: next(ticks))

    timed = TimedGuard.prepare(Mock)

    assert timed is not None
    assert timed.seconds == 2.5
    assert TimedGuard.prepare(lambda: None) is None


def test_what_the_guard_keeps_is_its_own() -> None:
    guard = Mock()
    timed = TimedGuard(guard)

    timed.restore(sentinel.state)

    guard.restore.assert_called_once_with(sentinel.state)
    assert timed.state() is guard.state.return_value
    assert timed.last_probe is guard.last_probe
