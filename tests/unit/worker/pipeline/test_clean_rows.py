"""Which of the user's rows are judged by, and which are protected."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from core.stages import ArtifactName
from defense.protocols import EncodedRow, Message, Row
from worker.pipeline.encoded_rows import UserRow, write_user_rows
from worker.pipeline.held_out import read_clean_training_rows, read_held_out, read_learned_rows
from worker.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Six training rows, of which line 2 is held out."""
    made = Workspace.create(tmp_path, "ftjob-1", 1)
    write_user_rows(made.artifact(ArtifactName.TRAINING_ROWS), [user_row(n) for n in range(1, 7)])
    write_user_rows(made.artifact(ArtifactName.VALIDATION_ROWS), [])
    return made


def user_row(line: int) -> UserRow:
    messages = (Message("user", "hello"), Message("assistant", "hi"))
    return UserRow(line, Row(messages), EncodedRow((1, 2), (-100, 2)))


def screen(
    workspace: Workspace, flagged: list[int], held_out: list[int], dropped: Sequence[int] = ()
) -> None:
    screening = {
        "training": {"flagged_lines": flagged},
        "validation": {"flagged_lines": []},
        "held_out_lines": held_out,
        "dropped_lines": dropped,
    }
    workspace.write_json(ArtifactName.SCREENING, screening)
    workspace.output(ArtifactName.SCREENING).rename(workspace.artifact(ArtifactName.SCREENING))


def test_clean_rows_are_neither_held_out_nor_flagged(workspace: Workspace) -> None:
    screen(workspace, flagged=[3, 4], held_out=[2])

    clean = [row.line for row in read_clean_training_rows(workspace)]
    held_out = [row.line for row in read_held_out(workspace)]

    assert clean == [1, 5, 6]
    assert held_out == [2]


def test_what_screening_dropped_is_not_learned(workspace: Workspace) -> None:
    screen(workspace, flagged=[3, 4], held_out=[2], dropped=[3, 4])

    learned = [row.line for row in read_learned_rows(workspace)]

    assert learned == [1, 5, 6]
    assert [row.line for row in read_clean_training_rows(workspace)] == learned


def test_flagged_rows_that_were_not_dropped_are_learned(workspace: Workspace) -> None:
    screen(workspace, flagged=[3, 4], held_out=[2])

    assert [row.line for row in read_learned_rows(workspace)] == [1, 3, 4, 5, 6]


def test_if_every_row_is_flagged_some_are_taken_all_the_same(workspace: Workspace) -> None:
    screen(workspace, flagged=[1, 3, 4, 5, 6], held_out=[2])

    assert [row.line for row in read_clean_training_rows(workspace)] == [1, 3, 4, 5, 6]
