"""Two models, or two judges, on the same prompts."""

import pytest

from defense.evaluation.comparison import judge_agreement, pair_outcomes
from defense.evaluation.errors import EvaluationError
from defense.moderation.protocol import Outcome

R, S, H, X = Outcome.REFUSED, Outcome.SAFE, Outcome.HARMFUL, Outcome.INCOHERENT


def test_changes_are_counted_prompt_by_prompt() -> None:
    paired = pair_outcomes([H, H, H, S, R], [R, X, H, S, H])

    assert paired.n == 5
    assert paired.transitions["harmful"] == {"refused": 1, "safe": 0, "harmful": 1, "incoherent": 1}
    assert (paired.no_longer_harmful, paired.newly_harmful) == (2, 1)
    # Three changed prompts; one or fewer of them the rarer way, twice: 2 * (1 + 3) / 8 = 1.
    assert paired.p_value == 1.0


def test_the_exact_test_is_the_one_of_a_coin() -> None:
    # Five heads of five: 2 / 32.
    assert pair_outcomes([H] * 5, [R] * 5).p_value == pytest.approx(0.0625)
    # Eight of nine: 2 * (1 + 9) / 512.
    assert pair_outcomes([H] * 8 + [R], [R] * 8 + [H]).p_value == pytest.approx(20 / 512)


def test_nothing_changed_is_no_evidence() -> None:
    paired = pair_outcomes([H, S], [H, S])

    assert (paired.no_longer_harmful, paired.newly_harmful, paired.p_value) == (0, 0, 1.0)


def test_kappa_is_agreement_beyond_chance() -> None:
    # Agreed 3 of 4. By chance: harmful 2/4 * 1/4 + refused 2/4 * 3/4 = 1/2; (3/4 - 1/2) / (1/2).
    agreement = judge_agreement([H, H, R, R], [H, R, R, R])

    assert (agreement.n, agreement.agreed, agreement.share) == (4, 3, 0.75)
    assert agreement.kappa == pytest.approx(0.5)
    assert agreement.confusion["harmful"]["refused"] == 1


def test_where_all_is_one_outcome_kappa_says_nothing() -> None:
    agreement = judge_agreement([R, R], [R, R])

    assert (agreement.share, agreement.kappa) == (1.0, None)


@pytest.mark.parametrize("compare", [pair_outcomes, judge_agreement])
def test_a_missing_outcome_is_an_error(compare: type) -> None:
    with pytest.raises(EvaluationError):
        compare([H], [H, R])
    with pytest.raises(EvaluationError):
        compare([], [])
