"""How many of a job's rows are compared with harmful ones before training."""

from typing import Final

# A pass forward and back to the activations, next to a step of training on the same row.
PASS_SHARE: Final = 2 / 3
# Rows of the operator's that the comparison reads besides.
REFERENCE_ROWS: Final = 96
_TRAINING_SHARE: Final = 0.05


def attributed_row_count(rows: int, rows_read: float, at_least: int) -> int:
    """Tell how many rows of a job are looked at.

    Args:
        rows: That the job learns from.
        rows_read: The same, all passes of training together.
        at_least: The operator's setting; 0 turns it off.

    Returns:
        All rows, or as many as cost a twentieth of the training, or `at_least` if that is more.
    """
    if at_least == 0:
        return 0
    affordable = int(_TRAINING_SHARE / PASS_SHARE * rows_read) - REFERENCE_ROWS
    return min(rows, max(at_least, affordable))
