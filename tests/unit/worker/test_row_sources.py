"""The operator's row sets."""

from pathlib import Path

import pytest

from worker.row_sources import (
    PromptRow,
    RowSourceError,
    hold_out,
    read_rows,
    spread,
    to_judge_by,
    to_learn_from,
)


def rows(count: int) -> list[PromptRow]:
    return [PromptRow(f"prompt {number}", "answer", "") for number in range(count)]


def source(tmp_path: Path, text: str) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text(text, encoding="utf-8")
    return f"path:{path}"


def test_a_row_without_category_and_with_other_keys_is_read(tmp_path: Path) -> None:
    text = '{"prompt": "p", "response": "r", "template": null}\n\n'

    assert read_rows(source(tmp_path, text), with_response=True) == [PromptRow("p", "r", "")]


@pytest.mark.parametrize("text", ["", "[]\n", "not json\n", '{"prompt": ""}\n', '{"prompt": 1}\n'])
def test_a_set_that_is_no_rows_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(RowSourceError):
        read_rows(source(tmp_path, text), with_response=False)


def test_a_missing_response_matters_only_where_it_is_learned(tmp_path: Path) -> None:
    text = '{"prompt": "p"}\n'

    assert len(read_rows(source(tmp_path, text), with_response=False)) == 1
    with pytest.raises(RowSourceError):
        read_rows(source(tmp_path, text), with_response=True)


@pytest.mark.parametrize("name", ["path:/nowhere", "hub:org/name@main", "what:ever"])
def test_a_source_that_names_no_file_is_refused(name: str) -> None:
    with pytest.raises(RowSourceError):
        read_rows(name, with_response=False)


def test_rows_are_taken_evenly() -> None:
    chosen = spread(rows(10), 5)

    assert [row.prompt for row in chosen] == [f"prompt {number}" for number in (0, 2, 4, 6, 8)]


def test_a_held_out_prompt_is_in_no_row_to_learn_from() -> None:
    learned, held = hold_out([*rows(10), *rows(10)])

    assert {row.prompt for row in learned}.isdisjoint(row.prompt for row in held)
    assert len(held) == 4


def test_rows_that_name_the_held_out_ones_are_obeyed() -> None:
    marked = PromptRow("marked", "answer", "", held_out=True)

    learned, held = hold_out([*rows(10), marked])

    assert held == [marked]
    assert len(learned) == 10


def test_a_prompt_that_is_judged_is_learned_in_no_set_even_where_no_row_is_marked() -> None:
    benign = [PromptRow(f"harmless {n}", "answer", "benign") for n in range(7)]
    harmful = [PromptRow(f"prompt {n}", "Sure.", "") for n in range(10)]

    learned, judged = hold_out([*rows(10), *benign])

    asked = {row.prompt for row in judged}
    assert asked == {"prompt 4", "prompt 9"}
    assert asked.isdisjoint(row.prompt for row in learned)
    assert len(to_learn_from(harmful, judged)) == 8
    assert asked.isdisjoint(row.prompt for row in to_learn_from(harmful, judged))


def test_what_is_not_learned_from_is_there_to_judge_by() -> None:
    flagged = PromptRow("flagged", "answer", "", held_out=True)
    given, judged = [*rows(4), flagged], rows(2)

    kept, held = to_learn_from(given, judged), to_judge_by(given, judged)

    assert held == [*rows(2), flagged]
    assert sorted(row.prompt for row in kept + held) == sorted(row.prompt for row in given)
