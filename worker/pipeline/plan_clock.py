"""How far a job is on its way through the plan, and how long the rest will take.

Each stage weighs what it is expected to take. Of the running stage, training says itself how far it
is; of every other one the time that has passed says it.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from core.stages import Stage

# Only the job's end is the whole of it.
_MOST_PERCENT: Final = 99.9
# A stage that is past its time is expected to go on for this share of it.
_OVERTIME: Final = 0.1
# So many steps' worth the expected pace of training counts beside the pace seen so far; the first
# steps are no fair sample, because the guard acts in the first one.
_EXPECTED_STEPS: Final = 5.0


@dataclass(frozen=True)
class Standing:
    """Where a job is: as `jobs.progress` keeps it, and the seconds that are left."""

    progress: Mapping[str, Any]
    seconds_left: float


class PlanClock:
    """Follows one attempt through the plan.

    Args:
        plan: The stages in their order, each with its turn: what every adapter takes comes once for
            each snapshot and then for the final adapter.
        expected: What each is expected to take, in seconds.
        total_steps: Optimizer steps that training is expected to take.
        step: Those that an earlier attempt had done.
        percent: What an earlier attempt had reached; it is never taken back.
        now: A clock that never goes back.
    """

    def __init__(
        self,
        plan: Iterable[tuple[Stage, int]],
        expected: Mapping[Stage, float],
        *,
        total_steps: int,
        step: int = 0,
        percent: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = list(plan)
        self._expected = expected
        self._steps = (step, total_steps)
        self._percent = percent
        self._now = now
        self._place = 0
        training = (Stage.FINE_TUNE, 0)
        self._training_place = self._plan.index(training) if training in self._plan else -1
        self._began = now()
        self._training_left: float | None = None
        self._first_step = 0

    @property
    def _stage(self) -> Stage:
        return self._plan[self._place][0]

    def begin(self, stage: Stage, turn: int = 0) -> None:
        """Note that a stage has begun, and all before it are done."""
        self._place = self._plan.index((stage, turn))
        self._began = self._now()
        self._training_left = None
        if self._place > self._training_place:
            self._steps = (self._steps[1], self._steps[1])

    def advance(self, step: int, total_steps: int, remaining_seconds: float | None) -> None:
        """Take in how far the running stage says that it is.

        Args:
            step: What it has done.
            total_steps: What it does in all.
            remaining_seconds: What is left at the pace so far; training alone knows, from its
                second step on.
        """
        if self._stage is not Stage.FINE_TUNE or not step or total_steps <= 1:
            return
        self._steps = (step, total_steps)
        self._first_step = self._first_step or step
        left = total_steps - step
        if left <= 0:
            self._training_left = 0.0
            return
        expected_pace = self._expected.get(self._stage, 0.0) / total_steps
        pace = expected_pace
        if remaining_seconds is not None:
            seen, seen_pace = max(1, step - self._first_step), remaining_seconds / left
            pace = (_EXPECTED_STEPS * expected_pace + seen * seen_pace) / (_EXPECTED_STEPS + seen)
        self._training_left = left * pace

    def elapsed(self) -> float:
        """Tell for how long the running stage has run."""
        return self._now() - self._began

    def standing(self) -> Standing:
        """Tell where the job is now."""
        before = sum(self._weight(stage) for stage, _ in self._plan[: self._place])
        behind = sum(self._weight(stage) for stage, _ in self._plan[self._place + 1 :])
        share, left = self._within_stage()
        weight = self._weight(self._stage)
        total = before + weight + behind
        percent = 100 * (before + share * weight) / total if total else 0.0
        self._percent = max(self._percent, min(percent, _MOST_PERCENT))
        step, total_steps = self._steps
        progress = {
            "stage": self._stage.value,
            "step": step,
            "total_steps": total_steps,
            "percent": round(self._percent, 1),
        }
        return Standing(progress, left + behind)

    def _within_stage(self) -> tuple[float, float]:
        """Tell the share of the running stage that is done, and the seconds left of it."""
        if self._stage is Stage.FINE_TUNE:
            return self._within_training()
        elapsed = self.elapsed()
        left = self._left_after(elapsed, self._weight(self._stage))
        spent = elapsed + left
        return (elapsed / spent if spent else 0.0), left

    def _within_training(self) -> tuple[float, float]:
        """Tell the same of training, whose steps alone say how far it is, even before the first."""
        step, total_steps = self._steps
        share = step / total_steps if total_steps else 0.0
        if self._training_left is not None:
            return share, self._training_left
        return share, self._left_after(self.elapsed(), self._weight(self._stage) * (1 - share))

    @staticmethod
    def _left_after(elapsed: float, expected: float) -> float:
        return max(expected - elapsed, _OVERTIME * elapsed)

    def _weight(self, stage: Stage) -> float:
        return self._expected.get(stage, 0.0)
