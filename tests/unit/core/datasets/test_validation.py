import io
import json
import tracemalloc

import pytest

from core.datasets import validation
from core.datasets.row_codes import RowCode
from core.datasets.rows import RowFormatError
from core.datasets.validation import (
    LongestRow,
    RowError,
    ValidationReport,
    read_rows,
    validate_rows,
)

GOOD = json.dumps(
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
).encode()


PREFERENCE = json.dumps(
    {
        "input": {"messages": [{"role": "user", "content": "Hi there"}]},
        "preferred_output": [{"role": "assistant", "content": "Hello"}],
        "non_preferred_output": [{"role": "assistant", "content": "Go far away"}],
    }
).encode()


def check(content: bytes, max_row_bytes: int = 1_000) -> ValidationReport:
    return validate_rows(io.BytesIO(content), max_row_bytes=max_row_bytes)


def test_good_rows_are_counted() -> None:
    report = check(GOOD + b"\n" + GOOD + b"\n")

    assert (report.rows, report.usable_rows, report.error_count) == (2, 2, 0)
    assert report.longest_row == LongestRow(1, 2)
    assert report.valid


def test_the_row_with_the_most_words_is_told() -> None:
    content = b"\n".join([b"nonsense " * 9, GOOD, GOOD.replace(b"Hi", b"a b\\n  c d"), GOOD])

    assert check(content).longest_row == LongestRow(line=3, words=5)


def test_words_that_training_does_not_read_are_not_counted() -> None:
    turns = [("assistant", "one two"), ("user", "three"), ("assistant", "four"), ("user", "five")]

    def longest(count: int) -> LongestRow | None:
        messages = [{"role": role, "content": content} for role, content in turns[:count]]
        return check(json.dumps({"messages": messages}).encode()).longest_row

    assert longest(1) == LongestRow(line=1, words=0)  # a first turn answers nothing
    assert longest(3) == longest(4) == LongestRow(line=1, words=4)


@pytest.mark.parametrize("ending", [b"\r\n", b"\n\n", b"\n  \n", b""])
def test_line_endings_and_blank_lines_do_not_matter(ending: bytes) -> None:
    assert check(GOOD + ending).valid


@pytest.mark.parametrize("content", [b"", b"\n\n", b"   "])
def test_a_file_without_rows_is_refused(content: bytes) -> None:
    report = check(content)

    assert [error.code for error in report.errors] == ["empty_file"]
    assert not report.valid


def test_a_wrong_row_is_reported_with_its_line_and_path() -> None:
    bad = b'{"messages": [{"role": "robot", "content": "Hi"}]}'

    report = check(GOOD + b"\n\n" + bad + b"\n" + GOOD)

    assert (report.rows, report.usable_rows, report.error_count) == (3, 2, 1)
    assert report.errors[0].line == 3
    assert report.errors[0].path == "messages[0].role"
    assert report.errors[0].sentence() == (
        "Line 3, messages[0].role: the role is unknown. Known roles are system, user, assistant; "
        "developer stands for system."
    )


def test_a_row_may_have_the_longest_length_and_no_more() -> None:
    assert check(GOOD + b"\n" + GOOD, max_row_bytes=len(GOOD)).valid

    report = check(GOOD + b" \n" + GOOD, max_row_bytes=len(GOOD))

    assert [(error.line, error.code) for error in report.errors] == [(1, "row_too_long")]
    assert report.usable_rows == 1


def test_one_endless_row_is_skipped_in_constant_memory() -> None:
    content = io.BytesIO(b'"' + b"x" * 20_000_000)
    tracemalloc.start()

    report = validate_rows(content, max_row_bytes=10_000)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.errors[0].code == "row_too_long"
    assert peak < 1_000_000


def test_only_the_first_errors_are_kept_but_all_are_counted() -> None:
    report = check(b"nonsense\n" * 50)

    assert (len(report.errors), report.error_count, report.usable_rows) == (20, 50, 0)


@pytest.mark.parametrize("magic", [b"\x1f\x8b\x08", b"PK\x03\x04", b"\x28\xb5\x2f\xfd"])
def test_a_compressed_file_is_named_as_such(magic: bytes) -> None:
    report = check(magic + b"\x00\n\xff" * 50)

    assert [error.code for error in report.errors] == ["compressed_file"]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("answer", ["Hello", "Hello " * 2_000])
def test_a_json_array_is_told_once_with_the_way_to_convert_it(
    indent: int | None, answer: str
) -> None:
    rows = [json.loads(GOOD.replace(b"Hello", answer.encode()))] * 20

    report = check(json.dumps(rows, indent=indent).encode())

    [error] = report.errors
    assert (error.line, error.code, report.error_count) == (1, "json_array", 1)
    assert error.sentence() == (
        "Line 1: the file is a JSON array, not JSON Lines. "
        "Convert it: jq -c '.[]' rows.json > rows.jsonl"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"prompt,completion\nHi,Hello\n",
        b"\xef\xbb\xbfprompt;completion\r\nHi;Hello\r\n",
        b"prompt\tcompletion\nHi\tHello\n",
        b'"prompt", "completion"\n"Hi\nthere", "Hello"\n',
        b'id,"the ""best"" prompt",answer\n1,"Hi\n',
        b"a,b\n" + b"x," * 10_000,
    ],
)
def test_a_table_is_told_once_with_the_way_to_convert_it(content: bytes) -> None:
    report = check(content * 20)

    assert [(error.line, error.code) for error in report.errors] == [(1, "csv_file")]
    assert "csv.DictReader" in report.errors[0].hint


@pytest.mark.parametrize(
    "first",
    [b"prompt,completion", b"nonsense", b'"Hi"', b"[1, 2]", b'["a"]', b"[" * 2_000, b"\x00", b","],
)
def test_one_wrong_line_before_good_ones_is_a_wrong_line(first: bytes) -> None:
    report = check(first + b"\n" + GOOD)

    assert (report.error_count, report.usable_rows) == (1, 1)


def test_lines_that_are_lists_of_turns_are_wrong_one_by_one() -> None:
    report = check(b'[{"role": "user", "content": "Hi"}]\n' * 3)

    assert [error.code for error in report.errors] == ["row_not_an_object"] * 3


def test_endless_blank_lines_end_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MAX_BLANK_LINES", 3)

    report = check(GOOD + b"\n" * 10)

    assert [error.code for error in report.errors] == ["too_many_blank_lines"]


def test_too_many_rows_end_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validation, "MAX_ROWS", 2)

    report = check(b"\n".join([GOOD] * 5))

    assert [(error.line, error.code) for error in report.errors] == [(3, "too_many_rows")]


def test_the_stored_report_is_plain_json() -> None:
    report = ValidationReport(2, 1, (RowError(2, "messages", RowCode.WRONG_TYPE, "m", "h"),), 1)

    assert json.loads(json.dumps(report.to_json())) == {
        "rows": 2,
        "usable_rows": 1,
        "errors": [
            {"line": 2, "path": "messages", "code": "wrong_type", "message": "m", "hint": "h"}
        ],
        "error_count": 1,
        "longest_row": None,
        "warnings": [],
        "warning_count": 0,
        "kind": None,
    }


def test_rows_are_read_with_their_line_numbers() -> None:
    rows = list(read_rows(io.BytesIO(GOOD + b"\n\n" + GOOD), max_row_bytes=1_000))

    assert [number for number, _ in rows] == [1, 3]
    assert rows[0][1].messages[1].content == "Hello"


def test_a_row_that_turned_bad_stops_the_reading_with_its_line() -> None:
    with pytest.raises(RowFormatError, match="line 2, messages: the row has no messages"):
        list(read_rows(io.BytesIO(GOOD + b"\n{}"), max_row_bytes=1_000))


@pytest.mark.parametrize(("row", "kind"), [(GOOD, "chat"), (PREFERENCE, "preference")])
def test_the_report_says_what_kind_of_rows_a_file_has(row: bytes, kind: str) -> None:
    report = check(row + b"\n" + row)

    assert (report.kind, report.usable_rows, report.error_count) == (kind, 2, 0)
    assert report.to_json()["kind"] == kind


@pytest.mark.parametrize(("first", "other"), [(GOOD, PREFERENCE), (PREFERENCE, GOOD)])
def test_a_file_of_two_kinds_is_refused_at_each_row_that_differs_from_the_first(
    first: bytes, other: bytes
) -> None:
    report = check(b"\n".join([first, other, first, other]))

    assert [(error.line, error.code) for error in report.errors] == [
        (2, RowCode.MIXED_KINDS),
        (4, RowCode.MIXED_KINDS),
    ]
    assert report.usable_rows == 2


def test_the_longer_answer_counts_for_the_length_of_a_preference() -> None:
    assert check(PREFERENCE).longest_row == LongestRow(line=1, words=5)


def test_a_preference_with_its_answers_swapped_is_no_duplicate() -> None:
    row = json.loads(PREFERENCE)
    swapped = row | {
        "preferred_output": row["non_preferred_output"],
        "non_preferred_output": row["preferred_output"],
    }

    report = check(b"\n".join([PREFERENCE, json.dumps(swapped).encode(), PREFERENCE]))

    assert [(one.line, one.path, one.code) for one in report.warnings[:-1]] == [
        (3, "input", RowCode.DUPLICATE_ROW)
    ]
