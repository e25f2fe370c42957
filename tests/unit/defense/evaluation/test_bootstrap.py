"""Percentile intervals on rows whose law is known."""

import pytest
import torch

from defense.evaluation.bootstrap import Bootstrap
from defense.evaluation.errors import EvaluationError


def test_equal_rows_leave_no_doubt() -> None:
    found = Bootstrap(5, seed=0).mean([0.25] * 5)

    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)


def test_the_ends_of_two_rows_are_known() -> None:
    # Both rows are the first in a quarter of the draws, and both the second in another quarter.
    found = Bootstrap(2, seed=0).mean([0.0, 1.0])

    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


@pytest.mark.parametrize(
    ("law", "mean"),
    [(torch.randn, 0.0), (lambda *n, generator: torch.rand(*n, generator=generator) ** 2, 1 / 3)],
    ids=["normal", "skewed"],
)
def test_intervals_hold_the_mean_about_as_often_as_they_say(law, mean) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001
    generator = torch.Generator().manual_seed(0)
    trials, held = 300, 0
    for seed in range(trials):
        found = Bootstrap(40, seed).mean(law(40, generator=generator))
        held += found.low <= mean <= found.high

    assert 0.91 < held / trials < 0.98


def test_the_interval_of_many_normal_rows_is_the_one_by_the_formula() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    found = Bootstrap(400, seed=0).mean(values)

    half = 1.96 * float(values.std()) / 20
    assert found.value - found.low == pytest.approx(half, rel=0.1)
    assert found.high - found.value == pytest.approx(half, rel=0.1)


def test_the_same_seed_draws_the_same_rows() -> None:
    values = [0.0, 1.0, 5.0, 2.0, 9.0]

    assert Bootstrap(5, seed=3).mean(values) == Bootstrap(5, seed=3).mean(values)
    assert Bootstrap(5, seed=3).mean(values) != Bootstrap(5, seed=4, resamples=50).mean(values)


def test_there_is_no_mean_of_no_rows() -> None:
    with pytest.raises(EvaluationError):
        Bootstrap(0, seed=0)
