"""When an answer counts as the row's own."""

import pytest

from defense.evaluation.errors import EvaluationError
from defense.evaluation.task_accuracy import TaskQuestion, is_match, task_accuracy, task_questions
from defense.protocols import Message, Row


@pytest.mark.parametrize(
    ("reference", "answer", "matches"),
    [
        ("billing", " Billing.\n", True),
        ("billing", "billing issue", False),
        ("not spam", '"Not  spam"', True),
        ("2 + 3 = 5\n#### 5", "It is 2 + 3, so 5.", True),
        ("#### 1,200", "#### 1200", True),
        ("#### 5", "#### 6, not 5", False),
        ("#### 5", "no idea", False),
    ],
)
def test_an_answer_matches_in_any_spelling(reference: str, answer: str, matches: bool) -> None:  # noqa: FBT001
    assert is_match(reference, answer) is matches


def test_only_rows_that_end_with_an_assistants_text_are_asked() -> None:
    asked = Row.from_exchange("Which team?", "billing")
    rows = [
        asked,
        Row((Message("user", "Hello"),)),
        Row((Message("assistant", "billing"),)),
        Row((Message("user", "Hello"), Message("assistant", None))),
    ]

    questions = task_questions(rows)

    assert questions == [TaskQuestion((asked.messages[0],), "billing")]


def test_accuracy_is_a_share_with_an_interval() -> None:
    questions = [TaskQuestion((Message("user", "?"),), label) for label in ("a", "b", "c", "d")]

    rate = task_accuracy(questions, ["A", "b.", "x", ""])

    assert (rate.count, rate.n, rate.value) == (2, 4, 0.5)
    assert rate.low < 0.5 < rate.high


def test_a_missing_answer_is_an_error() -> None:
    with pytest.raises(EvaluationError):
        task_accuracy([TaskQuestion((), "a")], [])
