"""Shares and their intervals, checked against numbers worked out by hand."""

import pytest

from defense.evaluation.errors import EvaluationError
from defense.evaluation.outcomes import outcome_rates, rates_by_category, wilson_rate
from defense.moderation.protocol import Judgement, Outcome


def _judgement(outcome: Outcome) -> Judgement:
    return Judgement(outcome, 0.0, 0.0, outcome is not Outcome.INCOHERENT, {})


def test_wilson_interval_of_a_half_of_ten() -> None:
    rate = wilson_rate(5, 10)

    # 1.96^2 = 3.8416: middle 0.5, half = 1.96 sqrt(.025 + .009604) / 1.38416 = 0.26341
    assert rate.value == 0.5
    assert rate.low == pytest.approx(0.23659, abs=1e-4)
    assert rate.high == pytest.approx(0.76341, abs=1e-4)


def test_wilson_interval_of_none_still_leaves_room_above() -> None:
    rate = wilson_rate(0, 28)

    # With no case the upper end is z^2 / (n + z^2) = 3.8415 / 31.8415.
    assert (rate.value, rate.low, rate.count, rate.n) == (0.0, 0.0, 0, 28)
    assert rate.high == pytest.approx(3.8415 / 31.8415, abs=1e-4)


def test_wilson_interval_of_all_ends_at_one() -> None:
    rate = wilson_rate(28, 28)

    assert rate.high == 1.0
    assert rate.low == pytest.approx(28 / 31.8415, abs=1e-4)


@pytest.mark.parametrize(("count", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_of_nothing_is_an_error(count: int, n: int) -> None:
    with pytest.raises(EvaluationError):
        wilson_rate(count, n)


def test_the_four_shares_add_up_and_repeated_prompts_are_counted_once() -> None:
    outcomes = [Outcome.HARMFUL, Outcome.REFUSED, Outcome.REFUSED, Outcome.INCOHERENT]

    rates = outcome_rates(["a", "b", "b", "c"], [_judgement(outcome) for outcome in outcomes])

    assert (rates.n, rates.unique_prompts) == (4, 3)
    assert (rates.harmful.value, rates.refused.value) == (0.25, 0.5)
    assert (rates.incoherent.value, rates.safe.value) == (0.25, 0.0)


def test_a_missing_judgement_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="2 prompts, but 1 judgements"):
        outcome_rates(["a", "b"], [_judgement(Outcome.SAFE)])


def test_categories_are_counted_apart() -> None:
    judgements = [_judgement(outcome) for outcome in (Outcome.HARMFUL, Outcome.SAFE, Outcome.SAFE)]

    rates = rates_by_category(["a", "b", "c"], ["x", "y", "x"], judgements)

    assert list(rates) == ["x", "y"]
    assert (rates["x"].harmful.value, rates["y"].harmful.value) == (0.5, 0.0)
