"""How long a guard takes of a training run, which is what the defense adds to plain training."""

import time
from collections.abc import Callable
from typing import Self

from defense.protocols import (
    GradientSource,
    Guard,
    GuardCorrection,
    PartState,
    Tensors,
)


class TimedGuard:
    """A guard, and the time that it has taken.

    Args:
        guard: Asked in its place.

    Attributes:
        seconds: Spent in preparing it and in corrections so far.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self.seconds = 0.0

    @classmethod
    def prepare(cls, build: Callable[[], Guard | None]) -> Self | None:
        """Make a guard, which takes its time too; None where a defense has none."""
        began = time.monotonic()
        guard = build()
        if guard is None:
            return None
        timed = cls(guard)
        timed.seconds = time.monotonic() - began
        return timed

    @property
    def last_probe(self) -> Tensors | None:
        """The guard's."""
        return self._guard.last_probe

    def correction(
        self, step: int, source: GradientSource, user_gradients: Tensors
    ) -> GuardCorrection | None:
        """Ask the guard."""
        began = time.monotonic()
        try:
            return self._guard.correction(step, source, user_gradients)
        finally:
            self.seconds += time.monotonic() - began

    def state(self) -> PartState:
        """The guard's."""
        return self._guard.state()

    def restore(self, state: PartState) -> None:
        """Put the guard where it stood."""
        self._guard.restore(state)
