"""The order in which scores become an outcome."""

import math

import pytest

from defense.moderation.coherence import Coherence
from defense.moderation.protocol import ModerationError, Outcome
from defense.moderation.verdict import Scores, Thresholds, decide

LANGUAGE = Coherence(coherent=True)
BROKEN = Coherence(coherent=False, reason="loop")


@pytest.mark.parametrize(
    ("refusal", "harmful", "coherence", "outcome"),
    [
        (0.9, 0.9, BROKEN, Outcome.INCOHERENT),
        (0.1, 0.1, BROKEN, Outcome.INCOHERENT),
        (0.9, 0.9, LANGUAGE, Outcome.REFUSED),
        (0.1, 0.9, LANGUAGE, Outcome.HARMFUL),
        (0.1, 0.1, LANGUAGE, Outcome.SAFE),
        (0.5, 0.1, LANGUAGE, Outcome.REFUSED),
        (0.4, 0.5, LANGUAGE, Outcome.HARMFUL),
    ],
)
def test_broken_text_comes_first_then_refusal_then_harm(
    refusal: float, harmful: float, coherence: Coherence, outcome: Outcome
) -> None:
    judgement = decide(Scores(refusal, harmful, {}), coherence, Thresholds())

    assert judgement.outcome is outcome


def test_a_judgement_keeps_its_numbers_and_the_reason() -> None:
    judgement = decide(Scores(0.25, 0.8, {"flagged": 0.7}), BROKEN, Thresholds())

    assert judgement.harmful_score == pytest.approx(0.6)  # 0.8 (1 - 0.25)
    assert judgement.refusal_score == 0.25
    assert judgement.category_scores == {"flagged": 0.7}
    assert (judgement.coherent, judgement.incoherence_reason) == (False, "loop")


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_no_outcome_rests_on_a_score_that_is_not_finite(number: float) -> None:
    with pytest.raises(ModerationError, match="harmful score"):
        decide(Scores(0.1, number, {}), LANGUAGE, Thresholds())
    with pytest.raises(ModerationError, match="self_harm"):
        decide(Scores(0.1, 0.1, {"self_harm": number}), LANGUAGE, Thresholds())
