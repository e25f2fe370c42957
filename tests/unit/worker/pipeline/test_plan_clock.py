"""Progress over the whole plan, with a clock that the test moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.stages import Stage
from tests.unit.worker.pipeline.builders import tiny_spec
from worker.pipeline.plan import plan_of
from worker.pipeline.plan_clock import PlanClock

STAGES = [stage.name for stage in plan_of(tiny_spec())]
# 100 seconds in all, half of them training.
EXPECTED = {
    Stage.VALIDATE_DATASET: 10.0,
    Stage.FINE_TUNE: 50.0,
    Stage.EVALUATE: 40.0,
}


class FakeTime:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def clock_at(moment: FakeTime, *, percent: float = 0.0, step: int = 0) -> PlanClock:
    return PlanClock(
        [(stage, 0) for stage in STAGES],
        EXPECTED,
        total_steps=20,
        step=step,
        percent=percent,
        now=moment,
    )


def test_a_stage_that_says_nothing_is_told_by_the_time_that_has_passed() -> None:
    moment = FakeTime()
    clock = clock_at(moment)
    clock.begin(Stage.VALIDATE_DATASET)

    moment.seconds = 5.0
    standing = clock.standing()

    assert standing.progress == {
        "stage": "validate_dataset",
        "step": 0,
        "total_steps": 20,
        "percent": 5.0,
    }
    assert standing.seconds_left == 95.0


def test_a_stage_that_is_past_its_time_is_never_done_before_it_ends() -> None:
    moment = FakeTime()
    clock = clock_at(moment)
    clock.begin(Stage.VALIDATE_DATASET)

    moment.seconds = 1000.0
    standing = clock.standing()

    assert standing.progress["percent"] == 9.1
    assert standing.seconds_left == 190.0


def test_training_counts_by_its_steps_and_its_own_pace() -> None:
    moment = FakeTime()
    clock = clock_at(moment)
    clock.begin(Stage.FINE_TUNE)

    moment.seconds = 20.0
    clock.advance(1, 20, remaining_seconds=None)
    at_first = clock.standing()
    clock.advance(11, 20, remaining_seconds=18.0)
    standing = clock.standing()

    assert at_first.seconds_left == pytest.approx(19 * 2.5 + 40)  # at the expected pace
    assert standing.progress["percent"] == 37.5  # 10 of validation, 11 of 20 steps of training
    # 9 steps at (5 * 2.5 + 10 * 2.0) / 15 seconds, then 40 seconds of evaluation.
    assert standing.seconds_left == pytest.approx(9 * 32.5 / 15 + 40)


def test_training_that_has_done_no_step_is_no_further_for_the_time_it_takes() -> None:
    moment = FakeTime()
    clock = clock_at(moment)
    clock.begin(Stage.FINE_TUNE)

    moment.seconds = 1000.0

    assert clock.standing().progress["percent"] == 10.0
    assert clock.standing().seconds_left == pytest.approx(100 + 40)


def test_the_steps_of_an_earlier_attempt_are_told_until_training_says_its_own() -> None:
    clock = clock_at(FakeTime(), percent=35.0, step=10)
    clock.begin(Stage.VALIDATE_DATASET)
    before = clock.standing().progress
    clock.begin(Stage.FINE_TUNE)
    standing = clock.standing()
    clock.advance(8, 20, remaining_seconds=None)

    assert (before["step"], before["percent"]) == (10, 35.0)
    assert standing.progress["step"] == 10
    assert standing.seconds_left == pytest.approx(25 + 40)
    assert clock.standing().progress["step"] == 8


def test_a_slow_first_step_moves_the_end_less_than_its_pace_would() -> None:
    clock = clock_at(FakeTime())
    clock.begin(Stage.FINE_TUNE)

    clock.advance(1, 20, remaining_seconds=19 * 25.0)

    assert clock.standing().seconds_left < 40 + 19 * 25.0 / 2


def test_steps_stay_those_of_training_afterwards() -> None:
    clock = clock_at(FakeTime())
    clock.begin(Stage.FINE_TUNE)
    clock.advance(22, 22, remaining_seconds=0.0)
    clock.begin(Stage.EVALUATE)
    clock.advance(1, 4, remaining_seconds=None)

    progress = clock.standing().progress

    assert (progress["step"], progress["total_steps"], progress["percent"]) == (22, 22, 60.0)


def test_what_an_earlier_attempt_had_reached_is_not_taken_back() -> None:
    clock = clock_at(FakeTime(), percent=42.0)
    clock.begin(Stage.FINE_TUNE)

    assert clock.standing().progress["percent"] == 42.0


def test_without_any_expectation_nothing_is_divided_by_nothing() -> None:
    clock = PlanClock([(stage, 0) for stage in STAGES], {}, total_steps=0, now=FakeTime())
    clock.begin(Stage.FINE_TUNE)

    assert clock.standing().progress["percent"] == 0.0
    assert clock.standing().seconds_left == 0.0


def test_a_job_that_trains_nothing_has_no_steps_and_comes_to_its_end() -> None:
    moment = FakeTime()
    stages = [Stage.VALIDATE_DATASET, Stage.ADOPT_TRAINING, Stage.EVALUATE]
    clock = PlanClock([(stage, 0) for stage in stages], EXPECTED, total_steps=0, now=moment)
    clock.begin(Stage.EVALUATE)

    moment.seconds = 20.0
    standing = clock.standing()

    assert standing.progress == {
        "stage": "evaluate",
        "step": 0,
        "total_steps": 0,
        "percent": 60.0,
    }
    assert standing.seconds_left == 20.0


@given(
    st.lists(
        st.tuples(st.sampled_from(range(len(STAGES))), st.floats(0, 500), st.integers(0, 20)),
        max_size=40,
    )
)
def test_percent_never_shrinks_and_the_rest_is_never_negative(
    moves: list[tuple[int, float, int]],
) -> None:
    moment = FakeTime()
    clock = clock_at(moment)
    reached = 0.0
    for place, seconds, step in sorted(moves, key=lambda move: move[0]):
        clock.begin(STAGES[place])
        moment.seconds += seconds
        clock.advance(step, 20, remaining_seconds=seconds)
        standing = clock.standing()
        assert reached <= standing.progress["percent"] <= 99.9
        assert standing.seconds_left >= 0
        reached = standing.progress["percent"]
