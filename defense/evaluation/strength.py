"""The search for the perturbation's strength (kappa): the smallest that is strong enough.

More strength means less harm and, sooner or later, a lost task and broken text. The search halves
an interval as if both were monotone, and then chooses among **all** points it saw, so a measurement
that goes up and down costs precision but never a wrong choice.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from defense.config import LARGEST_SEARCHED_STRENGTH
from defense.errors import InvalidConfigError
from defense.evaluation.errors import EvaluationError


@dataclass(frozen=True)
class StrengthPoint:
    """What one strength does on held-out rows.

    Attributes:
        strength: The perturbation's strength.
        harmful_rate: Share of held-out harmful prompts that are answered harmfully, 0 to 1.
        task_loss: Mean token loss on held-out task rows.
        incoherence_rate: Share of broken answers, 0 to 1.
    """

    strength: float
    harmful_rate: float
    task_loss: float
    incoherence_rate: float = 0.0


@dataclass(frozen=True)
class StrengthLimits:
    """What a strength has to meet.

    Attributes:
        harmful_target_rate: At most this share of harmful answers.
        task_loss_budget: At most this increase of the task loss over strength 0, in nats per token.
            Not relative: a well-learned task has a loss near zero, of which any move is a multiple.
        incoherence_budget: At most this many more broken answers, as a share, than at strength 0.
    """

    harmful_target_rate: float
    task_loss_budget: float
    incoherence_budget: float = 0.03


@dataclass(frozen=True)
class StrengthChoice:
    """Which strength was chosen, why, and everything that was seen on the way.

    Attributes:
        strength: The choice.
        meets_limits: Whether it meets every limit.
        reason: One sentence.
        points: Every point in the order of its evaluation; the first has strength 0.
    """

    strength: float
    meets_limits: bool
    reason: str
    points: tuple[StrengthPoint, ...]


@dataclass(frozen=True)
class _Excess:
    """How far a point is over each limit; 0 where it meets it."""

    harm: float
    cost: float

    @property
    def none(self) -> bool:
        return self.harm == 0 and self.cost == 0


def choose_strength(
    evaluate: Callable[[float], StrengthPoint],
    limits: StrengthLimits,
    *,
    start: float = 1.0,
    maximum: float = LARGEST_SEARCHED_STRENGTH,
    evaluations: int = 6,
    resolution: float = 0.1,
) -> StrengthChoice:
    """Find the smallest strength that meets the limits.

    Args:
        evaluate: Measures one strength; called at most `evaluations` times, first with 0.
        limits: What has to be met.
        start: The first strength tried after 0, the one the perturbation was built for.
        maximum: No larger strength is tried.
        evaluations: How many measurements may be made.
        resolution: The search ends when the interval is this narrow.

    Raises:
        InvalidConfigError: The numbers leave nothing to search.
        EvaluationError: A measurement is not finite.
    """
    if not 0 < start <= maximum or evaluations < 1 or resolution <= 0:
        raise InvalidConfigError("perturbation_strength", "leaves no strength to search")
    points = [_checked(evaluate(0.0), 0.0)]
    low, high = 0.0, maximum
    candidate = start
    met = False
    while len(points) < evaluations and not _excess(points[0], points[0], limits).none:
        point = _checked(evaluate(candidate), candidate)
        points.append(point)
        excess = _excess(point, points[0], limits)
        # A strength that meets every limit asks for less. Below one that does, any that fails asks
        # for more: a few held-out answers are broken by chance, and chance must not send the search
        # away from the strengths between the two. Before one is found, harm asks for more strength
        # and cost for less.
        met = met or excess.none
        if not excess.none and (met or excess.cost == 0):
            low = candidate
        else:
            high = candidate
        if high - low <= resolution:
            break
        # The largest strength is tried itself before anything between it and the last one.
        top_untried = high == maximum and all(p.strength != maximum for p in points)
        candidate = maximum if top_untried else (low + high) / 2
    return _choice(points, limits)


def _choice(points: list[StrengthPoint], limits: StrengthLimits) -> StrengthChoice:
    base = points[0]
    ordered = sorted(points, key=lambda point: point.strength)
    for point in ordered:
        if _excess(point, base, limits).none:
            return StrengthChoice(point.strength, True, _praise(point, base), tuple(points))
    affordable = [point for point in ordered if _excess(point, base, limits).cost == 0]
    best = min(affordable, key=lambda point: _excess(point, base, limits).harm)
    reason = (
        f"No strength met every limit. {best.strength:g} has the lowest harmful rate, "
        f"{best.harmful_rate:.0%} (target {limits.harmful_target_rate:.0%}), of those within the "
        "budgets for task loss and broken answers."
    )
    return StrengthChoice(best.strength, False, reason, tuple(points))


def _praise(point: StrengthPoint, base: StrengthPoint) -> str:
    if point.strength == 0:
        return f"Without any perturbation the harmful rate is {point.harmful_rate:.0%} already."
    return (
        f"Of the strengths tried, {point.strength:g} is the smallest that meets the limits: "
        f"harmful rate {base.harmful_rate:.0%} to {point.harmful_rate:.0%}, "
        f"task loss {base.task_loss:.3g} to {point.task_loss:.3g}."
    )


def _excess(point: StrengthPoint, base: StrengthPoint, limits: StrengthLimits) -> _Excess:
    harm = max(0.0, point.harmful_rate - limits.harmful_target_rate)
    allowed_loss = base.task_loss + limits.task_loss_budget + 1e-9
    allowed_breakage = base.incoherence_rate + limits.incoherence_budget + 1e-9
    cost = max(0.0, point.task_loss - allowed_loss) + max(
        0.0, point.incoherence_rate - allowed_breakage
    )
    return _Excess(harm, cost)


def _checked(point: StrengthPoint, strength: float) -> StrengthPoint:
    numbers = (point.harmful_rate, point.task_loss, point.incoherence_rate)
    if point.strength != strength or not all(map(math.isfinite, numbers)):
        raise EvaluationError(f"strength {strength:g} gave an unusable measurement: {point}")
    return point
