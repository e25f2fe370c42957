"""Intervals for means of anything, by drawing the rows again.

Source: B. Efron, Bootstrap methods: another look at the jackknife, 1979; percentile intervals.
With few rows they are somewhat too narrow: of the 95 % meant, about 93 % hold at 20 rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from defense.evaluation.errors import EvaluationError

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean over rows, and between which bounds it lies with 95 % confidence.

    Attributes:
        value: The mean.
        low: The 2.5th percentile of the means of resampled rows.
        high: The 97.5th percentile.
    """

    value: float
    low: float
    high: float


class Bootstrap:
    """Resamples of a number of rows: the same ones for every quantity measured on them.

    Args:
        rows: How many rows there are.
        seed: Of the draws.
        resamples: How often as many rows are drawn.

    Raises:
        EvaluationError: There are no rows.
    """

    def __init__(self, rows: int, seed: int, resamples: int = RESAMPLES) -> None:
        if rows == 0:
            raise EvaluationError("there are no rows to take a mean over")
        generator = torch.Generator().manual_seed(seed)
        self._drawn = torch.randint(rows, (resamples, rows), generator=generator)

    def mean(self, values: Sequence[float] | Tensor) -> Estimate:
        """The mean of one value for each row, with its interval."""
        by_row = torch.as_tensor(values, dtype=torch.float64)
        means = by_row[self._drawn].mean(dim=1)
        ends = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64))
        return Estimate(float(by_row.mean()), *(float(end) for end in ends))
