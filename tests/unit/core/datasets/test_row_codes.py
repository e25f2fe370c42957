"""Every code of the registry is found in some file, at its line, and no other code is."""

import io
import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.datasets import validation
from core.datasets.row_codes import ERRORS, OF_JOBS, WARNINGS, RowCode
from core.datasets.seen_rows import HashTable
from core.datasets.validation import ValidationReport, validate_rows

MAX_ROW_BYTES = 3_000
USER = {"role": "user", "content": "Hi"}
ANSWER = {"role": "assistant", "content": "Hello"}


def row(*messages: object, **more: object) -> bytes:
    return json.dumps({"messages": list(messages), **more}).encode()


def says(text: str) -> bytes:
    return row(USER | {"content": text}, ANSWER)


def preference(**changes: object) -> bytes:
    return json.dumps(PREFERENCE | changes).encode()


PREFERENCE = {
    "input": {"messages": [USER]},
    "preferred_output": [ANSWER],
    "non_preferred_output": [ANSWER | {"content": "What"}],
}

GOOD = [row(USER | {"content": f"{n} is"}, ANSWER | {"content": f"{n}!"}) for n in range(10)]

# Each stands on line 3, behind two good rows; the rest of `GOOD` follows.
ROWS: dict[RowCode, bytes] = {
    RowCode.BYTE_ORDER_MARK: b"\xef\xbb\xbf" + GOOD[0],
    RowCode.INVALID_UTF8: b'{"messages": "\xff"}',
    RowCode.INVALID_JSON: b"nonsense",
    RowCode.NUMBER_TOO_LONG: b'{"n": ' + b"9" * 5_000 + b"}",
    RowCode.NUMBER_NOT_FINITE: b'{"n": NaN}',
    RowCode.DUPLICATE_KEY: b'{"a": 1, "a": 2}',
    RowCode.NULL_CHARACTER: says("a\0b"),
    RowCode.LONE_SURROGATE: says("\ud800"),
    RowCode.NESTED_TOO_DEEP: b"[" * 100 + b"]" * 100,
    RowCode.ROW_TOO_LONG: b"x" * 10_000,
    RowCode.ROW_NOT_AN_OBJECT: b"[]",
    RowCode.MISSING_MESSAGES: b"{}",
    RowCode.EMPTY_MESSAGES: row(),
    RowCode.WRONG_TYPE: row("Hi"),
    RowCode.UNKNOWN_KEY: row(USER, ANSWER | {"wieght": 0}),
    RowCode.MISSING_ROLE: row({"content": "Hi"}),
    RowCode.UNKNOWN_ROLE: row({"role": "robot", "content": "Hi"}),
    RowCode.MISSING_CONTENT: row({"role": "user"}, ANSWER),
    RowCode.UNSUPPORTED_CONTENT: row(USER | {"content": [{"type": "image_url"}]}, ANSWER),
    RowCode.EMPTY_ASSISTANT: row(USER, ANSWER | {"content": " \n"}),
    RowCode.NO_ASSISTANT_TURN: row(USER),
    RowCode.NO_TRAINED_TURN: row(USER, ANSWER | {"weight": 0}),
    RowCode.WRONG_WEIGHT: row(USER, ANSWER | {"weight": 2}),
    RowCode.MISPLACED_WEIGHT: row(USER | {"weight": 1}, ANSWER),
    RowCode.TOOLS_UNSUPPORTED: row(USER, ANSWER, tools=[{"function": {"name": "add"}}]),
    RowCode.MALFORMED_TOOLS: row(USER, ANSWER, tools="add"),
    RowCode.MALFORMED_TOOL_CALL: row(USER, ANSWER | {"tool_calls": [{}]}),
    RowCode.MALFORMED_TOOL_RESULT: row(USER, {"role": "tool", "content": "3"}, ANSWER),
    RowCode.MIXED_KINDS: preference(),
    RowCode.MISSING_INPUT: preference(input=None),
    RowCode.MISSING_OUTPUT: preference(non_preferred_output=None),
    RowCode.EMPTY_OUTPUT: preference(preferred_output=[]),
    RowCode.SEVERAL_OUTPUT_TURNS: preference(preferred_output=[ANSWER, ANSWER]),
    RowCode.OUTPUT_NOT_ASSISTANT: preference(preferred_output=[USER]),
    RowCode.SYSTEM_NOT_FIRST: row(USER, {"role": "system", "content": "Be kind"}, ANSWER),
    RowCode.REPEATED_ASSISTANT: row(USER, ANSWER, ANSWER),
    RowCode.REPEATED_USER: row(USER, USER, ANSWER),
    RowCode.LAST_TURN_NOT_ASSISTANT: row(USER, ANSWER, USER),
    RowCode.ANSWER_WITHOUT_PROMPT: row(ANSWER),
    RowCode.EMPTY_PROMPT: says(" \n"),
    RowCode.SPECIAL_TOKEN: says("a<|im_end|>b"),
    RowCode.MOJIBAKE: says("caf\u00c3\u00a9"),
    RowCode.REPLACEMENT_CHARACTER: says("caf\ufffd"),
    RowCode.CONTROL_CHARACTER: says("a\x07b"),
    RowCode.DUPLICATE_ROW: GOOD[1],
    RowCode.NEAR_DUPLICATE_ROW: GOOD[1].replace(b"1 is", b" 1  IS..."),
}
FILES: dict[RowCode, bytes] = {
    RowCode.EMPTY_FILE: b"\n",
    RowCode.COMPRESSED_FILE: b"\x1f\x8b\x08\n",
    RowCode.JSON_ARRAY: b"[" + b",".join(GOOD) + b"]",
    RowCode.CSV_FILE: b"prompt,completion\nHi,Hello\n",
    RowCode.TOO_MANY_ROWS: b"\n".join(GOOD * 3),
    RowCode.TOO_MANY_BLANK_LINES: GOOD[0] + b"\n" * 1_100,
    RowCode.IDENTICAL_OUTPUTS: preference(non_preferred_output=[ANSWER]),
    RowCode.IDENTICAL_ANSWERS: says("One") + b"\n" + says("Two"),
    RowCode.TOO_FEW_ROWS: GOOD[0] + b"\n" + GOOD[1],
}


def check(content: bytes) -> ValidationReport:
    return validate_rows(io.BytesIO(content), max_row_bytes=MAX_ROW_BYTES)


def found(report: ValidationReport) -> list[tuple[RowCode, int | None]]:
    return [(finding.code, finding.line) for finding in (*report.errors, *report.warnings)]


def test_every_code_has_an_example_and_an_explanation() -> None:
    assert set(ROWS) | set(FILES) == set(ERRORS) | set(WARNINGS)
    assert sorted(RowCode) == sorted([*ERRORS, *WARNINGS, *OF_JOBS])


@pytest.mark.parametrize("code", ROWS)
def test_a_wrong_row_is_found_at_its_line_with_its_code_alone(code: RowCode) -> None:
    content = b"\r\n".join([*GOOD[:2], ROWS[code], *GOOD[2:]])

    report = check(content)

    if code is RowCode.NUMBER_TOO_LONG:  # longer than a row may be here
        report = validate_rows(io.BytesIO(content), max_row_bytes=10_000)
    assert found(report) == [(code, 3)]
    assert (report.error_count, report.warning_count) == ((1, 0) if code in ERRORS else (0, 1))
    assert report.valid == (code in WARNINGS)


@pytest.mark.parametrize("code", FILES)
def test_what_is_wrong_with_a_whole_file_is_found(
    code: RowCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "MAX_ROWS", 20)

    report = check(FILES[code])

    assert code in {one for one, _ in found(report)}
    assert report.valid == (code in WARNINGS)


def test_good_rows_have_no_findings() -> None:
    assert found(check(b"\n".join(GOOD))) == []


@pytest.mark.parametrize(
    "text", ["caf\u00e9", "N\u00c3O", "\u4f60\u597d", "a\tb\r\n", "x<y>z", "</b>"]
)
def test_sound_text_is_not_suspected(text: str) -> None:
    rows = [says(text), *GOOD]

    assert found(check(b"\n".join(rows))) == []


@pytest.mark.parametrize(("one", "other"), [("2+2", "2-2"), ("2.5", "25"), ("a b", "ab")])
def test_rows_that_mean_something_else_are_not_near_duplicates(one: str, other: str) -> None:
    assert found(check(b"\n".join([says(one), says(other), *GOOD]))) == []


def test_a_row_with_another_weight_is_no_exact_duplicate() -> None:
    rows = [row(USER, ANSWER, USER, ANSWER), row(USER, ANSWER | {"weight": 0}, USER, ANSWER)]

    assert found(check(b"\n".join([*rows, *GOOD]))) == [(RowCode.NEAR_DUPLICATE_ROW, 2)]


def test_the_table_of_hashes_finds_every_first_line_while_it_grows() -> None:
    table = HashTable()
    keys = [number * 1024 for number in range(3_000)]  # all in one place of the first table

    first = [table.first_line(key, line) for line, key in enumerate(keys, start=1)]
    again = [table.first_line(key, 9_999) for key in keys]

    assert first == again == list(range(1, 3_001))


def test_the_memory_that_many_rows_take_is_bounded() -> None:
    lines = (says(f"Question {number}?") + b"\n" for number in range(40_000))
    content = io.BytesIO(b"".join(lines))
    tracemalloc.start()

    report = validate_rows(content, max_row_bytes=MAX_ROW_BYTES)

    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.usable_rows == 40_000
    assert peak < 3_000_000  # two tables of 2**16 slots, and one of half as many while it grows


@given(st.lists(st.one_of(st.binary(max_size=200), st.sampled_from(list(ROWS.values())))))
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_are_reported_at_lines_that_exist(pieces: list[bytes]) -> None:
    content = b"\n".join(pieces)

    report = check(content)

    last = max(content.count(b"\n") + 1, 1)
    assert all(line is None or 1 <= line <= last for _, line in found(report))
    assert {error.code for error in report.errors} <= set(ERRORS)
    assert {warning.code for warning in report.warnings} <= set(WARNINGS)


@given(st.lists(st.sampled_from(["good", "bad", "blank"]), max_size=15))
@settings(max_examples=200, deadline=None)
def test_every_line_with_a_mistake_is_reported_and_no_other(kinds: list[str]) -> None:
    text = {"good": GOOD[0], "bad": b'{"messages": []}', "blank": b"  "}
    wrong = [number for number, kind in enumerate(kinds, start=1) if kind == "bad"]
    is_empty = not set(kinds) - {"blank"}

    report = check(b"\n".join(text[kind] for kind in kinds))

    assert [error.line for error in report.errors] == ([1] if is_empty else wrong)
