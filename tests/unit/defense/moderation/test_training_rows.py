"""What the head is told about the project's own rows."""

import json
from pathlib import Path

import pytest

from core.resources import resource_path
from defense.moderation.head import HARMFUL_ANSWER, REFUSAL
from defense.moderation.protocol import ModerationError
from defense.moderation.train_head import OWN_ROWS
from defense.moderation.training_rows import own_texts

SHIPPED = [resource_path(f"rows/{name}") for name in OWN_ROWS]


def _answers(paths: list[Path]) -> dict[str, tuple[int, int]]:
    """Whether each answer is taught as a refusal and as a harmful one."""
    return {
        item.text: (item.labels[REFUSAL], item.labels[HARMFUL_ANSWER])
        for item in own_texts(paths)
        if item.source == "own_answer"
    }


def _responses(name: str, *, benign: bool) -> list[str]:
    lines = resource_path(f"rows/{name}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    kept = [row for row in rows if not (benign and row["held_out"])]
    return [row["response"] for row in kept if (row["category"] == "benign") is benign]


@pytest.mark.parametrize(
    ("name", "benign", "taught"),
    [
        ("harmful", False, (0, 1)),
        ("alignment", False, (1, 0)),
        ("alignment", True, (0, 0)),
        ("benign", True, (0, 0)),
    ],
)
def test_the_defenders_rows_are_taught_for_what_they_are(
    name: str,
    benign: bool,  # noqa: FBT001
    taught: tuple[int, int],
) -> None:
    answers = _answers(SHIPPED)

    found = {answers[response] for response in _responses(name, benign=benign)}

    assert found == {taught}


@pytest.mark.parametrize(
    ("outcome", "taught"), [("refused", (1, 0)), ("harmful", (0, 1)), ("safe", (0, 0))]
)
def test_a_row_is_taught_by_its_outcome_and_not_by_its_category(
    tmp_path: Path, outcome: str, taught: tuple[int, int]
) -> None:
    row = {"prompt": "ask", "response": "told", "category": "privacy_violation", "outcome": outcome}
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(row))

    assert _answers([path]) == {"told": taught}


@pytest.mark.parametrize("named", [{}, {"outcome": "incoherent"}, {"outcome": None}])
def test_a_row_that_names_no_outcome_to_learn_is_refused(
    tmp_path: Path, named: dict[str, object]
) -> None:
    row = {"prompt": "ask", "response": "told", "category": "privacy_violation", **named}
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(row))

    with pytest.raises(ModerationError, match="needs one of refused, harmful, safe"):
        own_texts([path])
