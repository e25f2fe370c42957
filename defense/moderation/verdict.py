"""From scores to one of four outcomes: the part that every back end shares."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from defense.moderation.coherence import Coherence
from defense.moderation.protocol import Judgement, ModerationError, Outcome


@dataclass(frozen=True)
class Thresholds:
    """From which score on a question counts as answered with yes, 0 to 1."""

    refusal: float = 0.5
    harmful: float = 0.5


@dataclass(frozen=True)
class Scores:
    """What a back end measured on one exchange.

    Attributes:
        refusal: How surely the answer declines.
        harmful: How surely prompt or answer are harmful, were the answer not a refusal.
        categories: Scores per category, and `flagged`.
    """

    refusal: float
    harmful: float
    categories: Mapping[str, float]


def decide(scores: Scores, coherence: Coherence, thresholds: Thresholds) -> Judgement:
    """Apply the order of `defense.moderation.protocol` to one exchange.

    Raises:
        ModerationError: A score is not finite; no outcome may rest on it.
    """
    check_finite({"refusal": scores.refusal, "harmful": scores.harmful, **scores.categories})
    if not coherence.coherent:
        outcome = Outcome.INCOHERENT
    elif scores.refusal >= thresholds.refusal:
        outcome = Outcome.REFUSED
    elif scores.harmful >= thresholds.harmful:
        outcome = Outcome.HARMFUL
    else:
        outcome = Outcome.SAFE
    return Judgement(
        outcome=outcome,
        harmful_score=scores.harmful * (1 - scores.refusal),
        refusal_score=scores.refusal,
        coherent=coherence.coherent,
        category_scores=dict(scores.categories),
        incoherence_reason=coherence.reason,
    )


def check_finite(scores: Mapping[str, float]) -> None:
    """Refuse scores that are not finite.

    Raises:
        ModerationError: Naming the first such score.
    """
    for name, score in scores.items():
        if not math.isfinite(score):
            raise ModerationError(f"the moderation classifier gave {score} as its {name} score")
