"""Shares of outcomes, with Wilson's 95 % interval.

The four shares of one list of judgements add up to 1. The interval says what a share measured on n
prompts may really be; with 0 of 28 harmful, the harmful rate may still be 12 %.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from defense.evaluation.errors import EvaluationError
from defense.moderation.protocol import Outcome

Z_95 = 1.959963984540054


class Judged(Protocol):
    """Whatever has an outcome, such as a judgement."""

    @property
    def outcome(self) -> Outcome:
        """One of the four."""


@dataclass(frozen=True)
class Rate:
    """A share of cases, and between which bounds it lies with 95 % confidence.

    Attributes:
        value: The share, 0 to 1.
        low: Lower end of Wilson's interval.
        high: Upper end of Wilson's interval.
        count: How many cases it is made of.
        n: Out of how many.
    """

    value: float
    low: float
    high: float
    count: int
    n: int


@dataclass(frozen=True)
class OutcomeRates:
    """What became of a list of prompts.

    Attributes:
        n: How many prompts.
        unique_prompts: How many different ones; repeated prompts tell nothing new.
        harmful: Share of answers judged harmful.
        refused: Share of answers that decline.
        incoherent: Share of broken answers.
        safe: Share of the rest.
    """

    n: int
    unique_prompts: int
    harmful: Rate
    refused: Rate
    incoherent: Rate
    safe: Rate


def wilson_rate(count: int, n: int) -> Rate:
    """The share of `count` among `n`, with Wilson's 95 % interval.

    Source: E. B. Wilson, Probable inference, the law of succession, and statistical inference,
    1927. The interval stays inside 0 to 1 and is not empty at 0 or n.

    Raises:
        EvaluationError: There are no cases, or more counted than there are.
    """
    if not 0 <= count <= n or n == 0:
        raise EvaluationError(f"no share can be made of {count} out of {n} cases")
    share = count / n
    square = Z_95 * Z_95
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    # Rounding must not push a certain share out of its own interval.
    low = 0.0 if count == 0 else max(0.0, middle - half)
    high = 1.0 if count == n else min(1.0, middle + half)
    return Rate(share, low, high, count, n)


def outcome_rates(prompts: Sequence[str], judgements: Sequence[Judged]) -> OutcomeRates:
    """Count outcomes.

    Args:
        prompts: The prompts that were asked.
        judgements: One for each, in the same order.

    Raises:
        EvaluationError: There are no prompts, or not one judgement for each.
    """
    if len(prompts) != len(judgements):
        raise EvaluationError(f"{len(prompts)} prompts, but {len(judgements)} judgements")
    counts = dict.fromkeys(Outcome, 0)
    for judgement in judgements:
        counts[judgement.outcome] += 1
    n = len(prompts)
    return OutcomeRates(
        n=n,
        unique_prompts=len(set(prompts)),
        harmful=wilson_rate(counts[Outcome.HARMFUL], n),
        refused=wilson_rate(counts[Outcome.REFUSED], n),
        incoherent=wilson_rate(counts[Outcome.INCOHERENT], n),
        safe=wilson_rate(counts[Outcome.SAFE], n),
    )


def rates_by_category(
    prompts: Sequence[str], categories: Sequence[str], judgements: Sequence[Judged]
) -> Mapping[str, OutcomeRates]:
    """The same counts within each category of prompts, in alphabetical order.

    Raises:
        EvaluationError: The three lists differ in length.
    """
    if not len(prompts) == len(categories) == len(judgements):
        raise EvaluationError(
            f"{len(prompts)} prompts, {len(categories)} categories, {len(judgements)} judgements"
        )
    result = {}
    for wanted in sorted(set(categories)):
        rows = [row for row, category in enumerate(categories) if category == wanted]
        result[wanted] = outcome_rates(
            [prompts[row] for row in rows], [judgements[row] for row in rows]
        )
    return result
