"""Which of the user's rows are kept to judge the model by, and never learned from.

With a validation file these are its rows. Without one, up to a tenth of the training rows is held
out. Either way rows that the moderation classifier flags are left out of the judging: a guarded
model is meant to do worse on them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from core.stages import ArtifactName
from worker.pipeline.encoded_rows import UserRow, read_user_rows
from worker.workspace import Workspace

HELD_OUT_SHARE: Final = 10  # one row in so many
MOST_HELD_OUT: Final = 50
FEWEST_ROWS: Final = 20  # with fewer, every row is needed for training


@dataclass(frozen=True)
class HeldOutRows:
    """The rows to judge by.

    Attributes:
        rows: The rows themselves.
        training_lines: Lines of the training file that were taken for it.
    """

    rows: tuple[UserRow, ...]
    training_lines: frozenset[int]


def choose_held_out(lines: Sequence[int], flagged: Collection[int]) -> list[int]:
    """Choose lines of the training file to hold out: evenly spread, none of them flagged."""
    if len(lines) < FEWEST_ROWS:
        return []
    clean = [line for line in lines if line not in flagged]
    count = min(len(lines) // HELD_OUT_SHARE, MOST_HELD_OUT, len(clean) // 2)
    return [clean[index * len(clean) // count] for index in range(count)]


def read_clean_training_rows(workspace: Workspace) -> list[UserRow]:
    """Collect the training rows that neither are held out nor were flagged.

    If nothing else is left, the flagged ones are taken: a defense needs some rows of the task.
    """
    screening = workspace.read_json(ArtifactName.SCREENING)
    taken = frozenset(screening["held_out_lines"])
    flagged = frozenset(screening["training"]["flagged_lines"])
    learned = [
        row
        for row in read_user_rows(workspace, ArtifactName.TRAINING_ROWS)
        if row.line not in taken
    ]
    return [row for row in learned if row.line not in flagged] or learned


def read_held_out(workspace: Workspace) -> HeldOutRows:
    """Collect the held-out rows that `screen_dataset` chose."""
    screening = workspace.read_json(ArtifactName.SCREENING)
    taken = frozenset(screening["held_out_lines"])
    flagged = frozenset(screening["validation"]["flagged_lines"])
    rows = [
        row
        for row in read_user_rows(workspace, ArtifactName.VALIDATION_ROWS)
        if row.line not in flagged
    ]
    if taken:
        rows += [
            row
            for row in read_user_rows(workspace, ArtifactName.TRAINING_ROWS)
            if row.line in taken
        ]
    return HeldOutRows(tuple(rows), taken)
