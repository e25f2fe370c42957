"""Rates, losses and costs out of many results: pooled over seeds and tasks, and paired."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from benchmarks.defenses.methods import ALIGNED, NONE
from defense.evaluation.outcomes import Rate, wilson_rate

Result = Mapping[str, Any]
OUTCOMES = ("harmful", "refused", "incoherent", "safe")


@dataclass(frozen=True)
class Pairing:
    """Two models on the same prompts.

    Attributes:
        mended: Harmful answers of the first that are none of the second.
        broken: Harmful answers of the second that were none of the first.
        n: Pairs.
        p_value: Of McNemar's exact test: how likely so uneven a change is by chance.
    """

    mended: int
    broken: int
    n: int
    p_value: float


class Summary:
    """What results say together.

    Args:
        results: As the store gives them.
        attributions: Rankings of users' rows, likewise.
    """

    def __init__(self, results: Iterable[Result], attributions: Iterable[Result] = ()) -> None:
        self.results = list(results)
        self.attributions = list(attributions)

    def where(
        self, method: str, ratio: float | None = None, task: str | None = None
    ) -> list[Result]:
        """Results of a method; those of the untrained model belong to every ratio."""
        return [
            result
            for result in self.results
            if result["method"] == method
            and (method == ALIGNED or ratio is None or result["ratio"] == ratio)
            and (task is None or result["task"] == task)
        ]

    def untrained(self) -> list[Result]:
        """One result of the untrained model: its answers to prompts are the same in every task."""
        return self.where(ALIGNED)[:1]

    def ratios(self) -> list[float]:
        """Harmful ratios that were measured."""
        return sorted({each["ratio"] for each in self.results if each["ratio"] is not None})

    def tasks(self) -> list[str]:
        """Tasks that were measured, in the order in which they came."""
        return list(dict.fromkeys(result["task"] for result in self.results))

    def both(
        self, first: str, second: str, ratio: float | None = None
    ) -> tuple[list[Result], list[Result]]:
        """Results of two methods in the cells that have both."""
        mine = {_cell(result): result for result in self.where(first, ratio)}
        theirs = {_cell(result): result for result in self.where(second, ratio)}
        shared = [cell for cell in mine if cell in theirs]
        return [mine[cell] for cell in shared], [theirs[cell] for cell in shared]


def outcome_rate(
    results: Sequence[Result], source: str, outcome: str = "harmful", kind: str = "harm"
) -> Rate | None:
    """Share of answers with an outcome, all results together; None without any."""
    return _pooled(
        result["scores"][kind][source][outcome]
        for result in results
        if source in result["scores"][kind]
    )


def refusal_rate(results: Sequence[Result]) -> Rate | None:
    """Share of harmless prompts that are refused, all sources together."""
    return _pooled(
        rates["refused"]
        for result in results
        for rates in result["scores"]["over_refusal"].values()
    )


def incoherence_rate(results: Sequence[Result]) -> Rate | None:
    """Share of broken answers to harmful prompts, all sources together."""
    return _pooled(
        rates["incoherent"] for result in results for rates in result["scores"]["harm"].values()
    )


def accuracy(results: Sequence[Result]) -> Rate | None:
    """Share of the task's questions that are answered right."""
    return _pooled(result["scores"]["task"]["accuracy"] for result in results)


def mean_loss(results: Sequence[Result], stage: str, kind: str) -> float | None:
    """Mean over results of a loss at `initial`, `trained` or `guarded` weights."""
    return _mean(result["losses"][stage][kind] for result in results if stage in result["losses"])


def final_loss(results: Sequence[Result], kind: str) -> float | None:
    """Mean over results of a loss of the model that would be delivered."""
    return _mean(
        result["losses"].get("guarded", result["losses"]["initial"])[kind] for result in results
    )


def overhead(summary: Summary, method: str, seconds: Callable[[Result], float]) -> float | None:
    """Median of a time relative to plain training, over cells where one run measured both.

    Times of two runs do not compare: the machine may have had other work in one of them.
    """
    mine, plain = summary.both(method, NONE)
    shares = [
        seconds(own) / control["training"]["seconds"]
        for own, control in zip(mine, plain, strict=True)
        if own["training"]["run"] == control["training"]["run"] == own["ending"]["run"]
        and control["training"]["seconds"] > 0
    ]
    return median(shares) if shares else None


def training_seconds(result: Result) -> float:
    """Of the training alone."""
    return float(result["training"]["seconds"])


def protected_seconds(result: Result) -> float:
    """Of the training and of building the move."""
    return training_seconds(result) + float(result["ending"]["build_seconds"])


def whole_seconds(result: Result) -> float:
    """Of the training, the move and the search for its strength."""
    return protected_seconds(result) + float(result["ending"].get("search_seconds", 0.0))


def peak_bytes(result: Result) -> float | None:
    """The most memory that training or the move took."""
    taken = [result[part].get("peak_memory_bytes") for part in ("training", "ending")]
    known = [float(each) for each in taken if each is not None]
    return max(known) if known else None


def pairing(first: Sequence[Result], second: Sequence[Result], source: str) -> Pairing | None:
    """Compare two models' answers prompt by prompt; results in the order of their cells."""
    mended = broken = n = 0
    for one, other in zip(first, second, strict=True):
        pair = [result["scores"]["harm"][source]["outcomes"] for result in (one, other)]
        for before, after in zip(*pair, strict=True):
            n += 1
            mended += before == "h" != after
            broken += before != "h" == after
    return Pairing(mended, broken, n, mcnemar(mended, broken)) if n else None


def mcnemar(first: int, second: int) -> float:
    """Two-sided exact test that two kinds of change are equally likely."""
    changes = first + second
    rarer = sum(math.comb(changes, count) for count in range(min(first, second) + 1))
    return min(1.0, float(2 * rarer / 2**changes))


def _pooled(rates: Iterable[Mapping[str, Any]]) -> Rate | None:
    count = n = 0
    for rate in rates:
        count, n = count + rate["count"], n + rate["n"]
    return wilson_rate(count, n) if n else None


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return fmean(known) if known else None


def _cell(result: Result) -> tuple[Any, ...]:
    return result["task"], result["seed"], result["ratio"]
