"""Precision at k and the area under the curve, by hand."""

import pytest

from benchmarks.ranking import area_under_curve, precision_at_k

SCORES = [0.9, 0.1, 0.8, 0.3]


@pytest.mark.parametrize(
    ("wanted", "precision", "area"),
    [({0, 2}, 1, 1), ({1, 3}, 0, 0), ({0, 3}, 0.5, 0.75), ({1}, 0, 0)],
)
def test_the_best_scores_are_as_many_as_are_wanted(
    wanted: set[int], precision: float, area: float
) -> None:
    assert precision_at_k(SCORES, wanted) == precision
    assert area_under_curve(SCORES, wanted) == area


def test_a_tie_is_half_a_win_and_goes_by_place() -> None:
    assert area_under_curve([1, 1, 1], {1}) == 0.5
    assert precision_at_k([1, 1, 1], {1}) == 0
    assert precision_at_k([1, 1, 1], {0}) == 1
