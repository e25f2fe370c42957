"""How much work a job is, counted as the worker will do it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.estimation.ranges import Range
from core.estimation.workload import HARMFUL_ROW_TOKENS, FileSize, JobSize, Workload
from core.models import File
from core.screening import ScreeningPolicy
from core.settings import Settings
from defense.training.loop import TrainingPlan
from tests.unit.core.estimation.workloads import size, spec, workload
from worker.pipeline.held_out import choose_held_out


def test_a_small_file_is_learned_whole() -> None:
    work = workload(rows=10)

    assert work.learned_rows == Range.exactly(10)
    assert work.steps == Range.exactly(6)
    assert work.tokens(Range.exactly(0.5)) == Range.exactly(10 * 2 * 50)


@given(st.integers(1, 2000), st.integers(1, 5), st.integers(1, 32), st.none() | st.integers(1, 50))
def test_steps_are_those_that_the_training_loop_takes(
    rows: int, epochs: int, batch_size: int, max_steps: int | None
) -> None:
    work = workload(rows, n_epochs=epochs, batch_size=batch_size, max_steps=max_steps)
    plan = TrainingPlan(epochs, batch_size, 1e-3, 0, max_steps=max_steps)
    learned = rows - len(choose_held_out(range(rows), set()))

    assert work.steps.expected == plan.total_steps(learned)
    assert work.steps.high == plan.total_steps(rows)


def test_few_steps_read_few_rows() -> None:
    work = workload(rows=100, max_steps=3)

    assert work.steps == Range.exactly(3)
    assert work.rows_read == Range.exactly(12)


def test_quarantine_may_leave_nearly_nothing_to_learn() -> None:
    work = workload(rows=10, policy=ScreeningPolicy.QUARANTINE)

    assert work.learned_rows == Range(1, 10, 10)


def test_a_validation_file_takes_the_place_of_held_out_rows() -> None:
    work = Workload(spec(), size(rows=100, validation=FileSize(30, 3000)))

    assert work.learned_rows == Range.exactly(100)
    assert work.task_questions == 30


@pytest.mark.parametrize(("interval", "guarded"), [(1, 6), (2, 3), (4, 2), (10, 1)])
def test_the_guard_acts_in_the_first_step_and_every_kth_after_it(
    interval: int, guarded: int
) -> None:
    defense = {"type": "panacea", "guard_interval": interval, "harmful_batch_size": 5}

    work = workload(rows=10, defense=defense)

    assert work.guarded_steps == Range.exactly(guarded)
    assert work.guard_tokens == HARMFUL_ROW_TOKENS * (guarded * 2 * 5)


def test_no_guard_costs_nothing_in_training() -> None:
    undefended = workload(rows=10)
    unguarded = workload(rows=10, defense={"type": "panacea", "regularization_strength": 0})

    assert undefended.guard_tokens == unguarded.guard_tokens == Range.exactly(0)
    assert (undefended.is_guarded, unguarded.is_guarded) == (False, True)


def test_a_size_survives_being_stored() -> None:
    stored = {
        "training": {"rows": 3, "bytes": 30},
        "validation": {"rows": 1, "bytes": 10},
        "evaluation_prompts": 4,
        "answer_tokens": 8,
        "row_words": 12,
    }

    assert JobSize.from_json(stored) == JobSize(FileSize(3, 30), FileSize(1, 10), 4, 8, 12)


def test_rows_that_nobody_counted_are_guessed_from_the_bytes(settings: Settings) -> None:
    counted = File(bytes=1000, validation={"usable_rows": 7, "longest_row": {"words": 9}})
    uncounted = File(bytes=1000, validation=None)

    found = JobSize.of(counted, uncounted, settings)

    assert found.training == FileSize(7, 1000)
    assert found.validation == FileSize(5, 1000)
    assert found.row_words == 9
    assert found.second_evaluation_prompts == settings.second_evaluation_prompt_count
