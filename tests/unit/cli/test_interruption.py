"""TERM and Ctrl-C interrupt once; the clean-up that follows is left in peace."""

import os
import signal

import pytest

from cli.interruption import interrupted_once


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_interrupts_and_the_second_does_not(number: signal.Signals) -> None:
    cleaned_up = False

    with interrupted_once(), pytest.raises(KeyboardInterrupt):  # noqa: PT012 - the clean-up is the point
        try:
            os.kill(os.getpid(), number)
            pytest.fail("the signal did not interrupt")
        finally:
            os.kill(os.getpid(), number)
            cleaned_up = True

    assert cleaned_up


def test_the_handlers_of_before_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    with interrupted_once():
        pass

    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
