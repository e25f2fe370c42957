"""How many rows are worth looking at."""

import pytest

from core.attributed_rows import REFERENCE_ROWS, attributed_row_count
from defense.evaluation import row_attribution


@pytest.mark.parametrize(
    ("rows", "rows_read", "at_least", "count"),
    [
        (50, 150, 200, 50),  # all of a small file
        (1_000, 3_000, 200, 200),  # a twentieth would be 225 rows, the operator's among them
        (10_000, 30_000, 200, 2_250 - REFERENCE_ROWS),
        (10_000, 30_000, 5_000, 5_000),
        (100, 10_000, 20, 100),  # many passes pay for all rows
        (10_000, 30_000, 0, 0),
    ],
)
def test_all_rows_or_a_twentieth_of_the_training_or_what_the_operator_wants(
    rows: int, rows_read: float, at_least: int, count: int
) -> None:
    assert attributed_row_count(rows, rows_read, at_least) == count


def test_the_operators_rows_are_counted_as_they_are_read() -> None:
    # One part for each side of the direction, and one to compare with.
    assert 3 * row_attribution.REFERENCE_ROWS == REFERENCE_ROWS
