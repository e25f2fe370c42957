"""The shipped figures grow with what a stage has to do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.estimation.ranges import Range
from core.estimation.reference import (
    ANSWER_SECONDS,
    REFERENCE_PARAMETERS,
    TOKEN_SECONDS,
    reference_seconds,
)
from core.estimation.workload import Workload
from core.screening import ScreeningPolicy
from core.stages import Stage
from tests.unit.core.estimation.workloads import size, spec, workload

TOKENS = Range.exactly(1000)
PANACEA = {"type": "panacea"}


def seconds(stage: Stage, work: Workload, parameters: int | None = None) -> float:
    return reference_seconds(stage, work, TOKENS, parameters).expected


def test_training_takes_so_long_per_token_of_user_and_guard() -> None:
    plain = seconds(Stage.FINE_TUNE, workload())
    guarded = workload(defense=PANACEA)

    assert plain == pytest.approx(1 + 1000 * TOKEN_SECONDS)
    extra = guarded.guard_tokens.expected * TOKEN_SECONDS
    assert seconds(Stage.FINE_TUNE, guarded) == pytest.approx(plain + extra)


def test_evaluation_asks_two_sets_of_two_models_and_the_task_of_three() -> None:
    work = Workload(spec(defense=PANACEA), size(rows=10, evaluation_prompts=7))

    assert seconds(Stage.EVALUATE, work) == pytest.approx(1 + 2 * 7 * 2 * ANSWER_SECONDS)


def test_evaluation_asks_the_second_source_too() -> None:
    alone = Workload(spec(defense=PANACEA), size(rows=10, evaluation_prompts=7))
    both = size(rows=10, evaluation_prompts=7, second_evaluation_prompts=5)

    extra = seconds(Stage.EVALUATE, Workload(spec(defense=PANACEA), both))

    assert extra - seconds(Stage.EVALUATE, alone) == pytest.approx(5 * 2 * ANSWER_SECONDS)


def test_only_a_defense_is_built_and_its_strength_measured() -> None:
    nothing = seconds(Stage.PERTURB, workload())
    fixed = seconds(Stage.PERTURB, workload(defense={**PANACEA, "perturbation_strength": 1.0}))
    reused = {
        **PANACEA,
        "final_perturbation": "last_batch",
        "perturbation_strength": 1.0,
    }

    assert nothing < fixed < seconds(Stage.PERTURB, workload(defense=PANACEA))
    assert seconds(Stage.PERTURB, workload(defense=reused)) == nothing


def test_rows_are_judged_unless_screening_is_off() -> None:
    few, many = workload(rows=10), workload(rows=10_000)
    unscreened = workload(rows=10_000, policy=ScreeningPolicy.OFF)

    assert seconds(Stage.SCREEN_DATASET, few) < seconds(Stage.SCREEN_DATASET, many)
    assert seconds(Stage.SCREEN_DATASET, unscreened) < seconds(Stage.SCREEN_DATASET, few)


def test_ranked_rows_and_the_operators_cost_two_thirds_of_training_on_them() -> None:
    unranked = Workload(spec(), size(rows=10))
    ranked = Workload(spec(), size(rows=10, attribution_rows=5))

    assert seconds(Stage.ATTRIBUTE_ROWS, unranked) == pytest.approx(1)
    # 1000 tokens are of two passes over ten rows.
    extra = (5 + 96) * 50 * TOKEN_SECONDS * 2 / 3
    assert seconds(Stage.ATTRIBUTE_ROWS, ranked) == pytest.approx(1 + extra)


def test_a_model_twice_as_large_takes_twice_as_long_for_its_passes() -> None:
    one = seconds(Stage.FINE_TUNE, workload(), REFERENCE_PARAMETERS)
    two = seconds(Stage.FINE_TUNE, workload(), 2 * REFERENCE_PARAMETERS)

    assert two - 1 == pytest.approx(2 * (one - 1))


@given(st.sampled_from(Stage), st.integers(1, 5000), st.sampled_from([PANACEA, {"type": "none"}]))
def test_every_stage_of_every_job_takes_some_time(
    stage: Stage, rows: int, defense: dict[str, object]
) -> None:
    work = workload(rows, defense=defense)
    tokens = work.tokens(Range(0.1, 0.2, 0.7))

    found = reference_seconds(stage, work, tokens)

    assert 0 < found.low <= found.expected <= found.high


@given(st.sampled_from(Stage), st.integers(1, 5000))
def test_more_rows_never_take_less_time(stage: Stage, rows: int) -> None:
    def at(count: int) -> Range:
        work = workload(count, defense=PANACEA)
        return reference_seconds(stage, work, work.tokens(Range(0.1, 0.2, 0.7)))

    assert at(rows + 1).high >= at(rows).high - 1e-9
