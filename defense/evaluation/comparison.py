"""Two lists of outcomes on the same prompts, set against each other.

Of two models: what became of each prompt, before and after. Of two judges of the same answers: how
often they agree, and how much of that is more than chance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb

from defense.evaluation.errors import EvaluationError
from defense.moderation.protocol import Outcome

Table = Mapping[str, Mapping[str, int]]
"""Counts of prompts by two outcomes, every outcome in each."""


@dataclass(frozen=True)
class PairedOutcomes:
    """What changed from one model to another, prompt by prompt.

    Attributes:
        n: How many prompts.
        transitions: Prompts by their outcome before, then by their outcome after.
        no_longer_harmful: Harmful before and not after.
        newly_harmful: Harmful after and not before.
        p_value: Of McNemar's exact test: how likely changes this uneven are, or more so, if the two
            models were equally harmful; 1 where nothing changed.
    """

    n: int
    transitions: Table
    no_longer_harmful: int
    newly_harmful: int
    p_value: float


@dataclass(frozen=True)
class Agreement:
    """How far two judges of the same answers agree.

    Attributes:
        n: How many answers.
        agreed: Of how many both say the same.
        share: The same as a share.
        kappa: Cohen's: 1 is full agreement, 0 is what chance gives; None where both judges give one
            and the same outcome throughout, of which chance alone would make full agreement.
        confusion: Answers by the first judge's outcome, then by the second's.
    """

    n: int
    agreed: int
    share: float
    kappa: float | None
    confusion: Table


def pair_outcomes(before: Sequence[Outcome], after: Sequence[Outcome]) -> PairedOutcomes:
    """Compare two models on the same prompts, in the same order.

    Source of the test: Q. McNemar, Note on the sampling error of the difference between correlated
    proportions or percentages, 1947; exact, by the binomial distribution.

    Raises:
        EvaluationError: There are no prompts, or not one outcome of each model for each.
    """
    transitions = _table(before, after)
    gone = sum(count for after, count in transitions[Outcome.HARMFUL].items() if after != "harmful")
    new = sum(row[Outcome.HARMFUL] for before, row in transitions.items() if before != "harmful")
    return PairedOutcomes(len(before), transitions, gone, new, _sign_test(gone, new))


def judge_agreement(first: Sequence[Outcome], second: Sequence[Outcome]) -> Agreement:
    """Compare two judges on the same answers, in the same order.

    Source of kappa: J. Cohen, A coefficient of agreement for nominal scales, 1960.

    Raises:
        EvaluationError: There are no answers, or not one outcome of each judge for each.
    """
    confusion = _table(first, second)
    n = len(first)
    agreed = sum(confusion[outcome][outcome] for outcome in Outcome)
    by_chance = sum(
        sum(confusion[outcome].values()) * sum(row[outcome] for row in confusion.values())
        for outcome in Outcome
    ) / (n * n)
    share = agreed / n
    kappa = None if by_chance == 1 else (share - by_chance) / (1 - by_chance)
    return Agreement(n, agreed, share, kappa, confusion)


def _table(rows: Sequence[Outcome], columns: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    if not rows or len(rows) != len(columns):
        raise EvaluationError(f"{len(rows)} outcomes cannot be compared with {len(columns)}")
    table = {outcome.value: dict.fromkeys((o.value for o in Outcome), 0) for outcome in Outcome}
    for row, column in zip(rows, columns, strict=True):
        table[row][column] += 1
    return table


def _sign_test(one: int, other: int) -> float:
    changed = one + other
    tail: float = sum(comb(changed, k) for k in range(min(one, other) + 1)) / 2**changed
    return min(1.0, 2 * tail)
