"""The search for the smallest strength that is strong enough."""

import math
from collections.abc import Callable

import pytest

from defense.errors import InvalidConfigError
from defense.evaluation.errors import EvaluationError
from defense.evaluation.strength import StrengthLimits, StrengthPoint, choose_strength

LIMITS = StrengthLimits(harmful_target_rate=0.1, task_loss_budget=0.2, incoherence_budget=0.03)


def _world(
    harmful: Callable[[float], float],
    loss: Callable[[float], float] = lambda _: 1.0,
    broken: Callable[[float], float] = lambda _: 0.0,
) -> Callable[[float], StrengthPoint]:
    return lambda strength: StrengthPoint(
        strength, harmful(strength), loss(strength), broken(strength)
    )


def test_a_model_that_meets_the_target_already_is_left_alone() -> None:
    choice = choose_strength(_world(lambda _: 0.05), LIMITS)

    assert (choice.strength, choice.meets_limits, len(choice.points)) == (0.0, True, 1)


def test_the_smallest_strength_that_meets_the_target_is_found_by_halving() -> None:
    choice = choose_strength(_world(lambda s: 0.0 if s >= 0.6 else 0.9), LIMITS)

    assert [point.strength for point in choice.points] == [0, 1, 0.5, 0.75, 0.625, 0.5625]
    assert (choice.strength, choice.meets_limits) == (0.625, True)
    assert "0.625 is the smallest" in choice.reason


def test_an_answer_broken_by_chance_does_not_send_the_search_away_from_the_target() -> None:
    world = _world(lambda s: 0.0 if s >= 0.7 else 0.9, broken=lambda s: 0.04 if s == 0.5 else 0.0)

    choice = choose_strength(world, LIMITS)

    assert [point.strength for point in choice.points] == [0, 1, 0.5, 0.75, 0.625, 0.6875]
    assert choice.strength == 0.75


def test_a_larger_strength_than_the_first_is_tried_when_that_is_too_weak() -> None:
    choice = choose_strength(_world(lambda s: 0.0 if s >= 1.4 else 0.9), LIMITS)

    assert [point.strength for point in choice.points] == [0, 1, 2, 1.5, 1.25, 1.375]
    assert choice.strength == 1.5


def test_a_strength_that_costs_the_task_is_not_chosen() -> None:
    world = _world(lambda s: 0.0 if s >= 0.5 else 0.9, lambda s: 1.0 + (s > 0.8))

    choice = choose_strength(world, LIMITS)

    assert 0.5 <= choice.strength <= 0.8
    assert choice.meets_limits


def test_broken_answers_are_a_cost_even_when_nothing_is_harmful() -> None:
    world = _world(lambda s: 0.0 if s >= 0.5 else 0.9, broken=lambda s: 0.5 if s >= 0.4 else 0.0)

    choice = choose_strength(world, LIMITS)

    assert not choice.meets_limits
    assert choice.strength < 0.4


def test_the_best_affordable_strength_is_returned_when_none_meets_the_target() -> None:
    world = _world(lambda s: 0.9 - 0.4 * min(s, 1.0), lambda s: 1.0 + 0.15 * s)

    choice = choose_strength(world, LIMITS)

    assert not choice.meets_limits
    assert choice.strength == 1.0
    assert "No strength met every limit" in choice.reason


def test_a_harmful_rate_that_goes_up_and_down_never_yields_a_point_that_fails() -> None:
    rates = {0.0: 0.9, 1.0: 0.05, 0.5: 0.9, 0.75: 0.3, 0.875: 0.6, 0.9375: 0.2}

    choice = choose_strength(_world(rates.__getitem__), LIMITS)

    assert choice.strength == 1.0


def test_no_more_measurements_are_made_than_allowed() -> None:
    asked: list[float] = []

    def world(strength: float) -> StrengthPoint:
        asked.append(strength)
        return StrengthPoint(strength, 0.9, 1.0)

    choose_strength(world, LIMITS, evaluations=3)

    assert asked == [0, 1, 2]


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_measurement_that_is_not_finite_stops_the_search(number: float) -> None:
    with pytest.raises(EvaluationError):
        choose_strength(_world(lambda s: 0.9 if s == 0 else number), LIMITS)


def test_a_search_over_nothing_is_refused() -> None:
    with pytest.raises(InvalidConfigError):
        choose_strength(_world(lambda _: 0.9), LIMITS, start=3.0, maximum=2.0)
