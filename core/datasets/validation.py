"""Validation of a training file: row by row, in bounded memory, without a tokenizer.

Says which line is wrong, where in the row, and what to do. Tokens are counted where the model is
known (`token_check`). What can be told without is the row with the most words: with a tokenizer
that does not join words, that row has at least as many tokens.

Memory holds two rows and two tables of hashes, which find rows that are there twice; `MAX_ROWS`
bounds the tables to 100 MiB together.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from typing import BinaryIO, Final, Literal

from core.datasets.formats import TrainingRow, parse_row
from core.datasets.lines import OverlongLine, read_lines
from core.datasets.other_formats import other_format
from core.datasets.row_codes import ERRORS, WARNINGS, RowCode
from core.datasets.row_warnings import oddities
from core.datasets.rows import ChatMessage, Role, RowFormatError, RowKind
from core.datasets.seen_rows import SeenRows

MAX_ROWS: Final = 1_000_000
MAX_BLANK_LINES: Final = 1_000
REPORTED_ERRORS: Final = 20
FEW_ROWS: Final = 10


@dataclass(frozen=True)
class RowError:
    """One finding in a training file: line number from 1, path within the row, what to do.

    `line` is None for a warning about the whole file.
    """

    line: int | None
    path: str
    code: RowCode
    message: str
    hint: str

    def sentence(self) -> str:
        """Say it in one line, as a person reads it."""
        line = "The file" if self.line is None else f"Line {self.line}"
        place = f"{line}, {self.path}" if self.path else line
        return f"{place}: {self.message}. {self.hint}"


Level = Literal["error", "warning"]
FindingListener = Callable[[Level, RowError], object]


def ignore_finding(_level: Level, _finding: RowError) -> None:
    """Listen to no finding."""


@dataclass(frozen=True)
class LongestRow:
    """The row with the most words up to its last answer: its line number from 1, and how many."""

    line: int
    words: int


@dataclass(frozen=True)
class ValidationReport:
    """What a training file holds: the first twenty errors and warnings, and counts of all.

    `kind` is None for a file of which no row can be trained on.
    """

    rows: int
    usable_rows: int
    errors: tuple[RowError, ...] = field(default=())
    error_count: int = 0
    longest_row: LongestRow | None = None
    warnings: tuple[RowError, ...] = field(default=())
    warning_count: int = 0
    kind: RowKind | None = None

    @property
    def valid(self) -> bool:
        """Whether a job may train on the file."""
        return self.error_count == 0 and self.usable_rows > 0

    def to_json(self) -> dict[str, object]:
        """Return the report as it is stored and shown."""
        return {
            **asdict(self),
            "errors": [asdict(error) for error in self.errors],
            "warnings": [asdict(warning) for warning in self.warnings],
        }


def validate_rows(
    stream: BinaryIO, *, max_row_bytes: int, on_finding: FindingListener = ignore_finding
) -> ValidationReport:
    """Check every row of a training file; memory stays at two rows.

    Args:
        stream: The file.
        max_row_bytes: A longer row is a mistake.
        on_finding: Told of every mistake and every warning, of which the report keeps twenty each.
    """
    report = _Tally(on_finding)
    blank_lines = 0
    lines = read_lines(stream, max_row_bytes)
    head = list(islice(lines, 2))
    other = other_format(*head, *[b""] * (2 - len(head)))
    if other is not None:
        report.refuse(_other_format(other))
        return report.finished()
    for number, line in enumerate(chain(head, lines), start=1):
        if isinstance(line, bytes) and not line.strip():
            blank_lines += 1
            if blank_lines > MAX_BLANK_LINES:
                report.refuse(_too_many_blank_lines(number))
                break
            continue
        if report.rows >= MAX_ROWS:
            report.refuse(_too_many_rows(number))
            break
        report.rows += 1
        if isinstance(line, OverlongLine):
            report.refuse(_overlong_row(number, max_row_bytes))
            continue
        try:
            row = parse_row(line)
        except RowFormatError as error:
            report.refuse(RowError(number, error.path, error.row_code, error.message, error.hint))
        else:
            report.accept(number, row)
    if report.rows == 0 and report.error_count == 0:
        report.refuse(_empty_file())
    return report.finished()


def read_rows(
    stream: BinaryIO, *, max_row_bytes: int, min_row_bytes: int = 0
) -> Iterator[tuple[int, TrainingRow]]:
    """Yield line number and row of a training file that has passed `validate_rows`.

    Args:
        stream: The file.
        max_row_bytes: A longer row is not usable.
        min_row_bytes: Shorter rows are passed over unread.

    Raises:
        RowFormatError: A row is not usable after all; its message starts with the line number.
    """
    for number, line in enumerate(read_lines(stream, max_row_bytes), start=1):
        if isinstance(line, OverlongLine):
            error = _overlong_row(number, max_row_bytes)
            raise RowFormatError(error.code, "", error.sentence(), error.hint)
        if len(line) >= min_row_bytes and line.strip():
            try:
                yield number, parse_row(line)
            except RowFormatError as error:
                place = f"line {number}, {error.path}" if error.path else f"line {number}"
                message = f"{place}: {error.message}"
                raise RowFormatError(error.row_code, error.path, message, error.hint) from error


class _Tally:
    """The report while it is being counted."""

    def __init__(self, on_finding: FindingListener) -> None:
        self._on_finding = on_finding
        self.rows = 0
        self.usable_rows = 0
        self.error_count = 0
        self._warning_count = 0
        self._errors: list[RowError] = []
        self._warnings: list[RowError] = []
        self._longest: LongestRow | None = None
        self._seen = SeenRows()
        self._only_answer: str | None = None
        self._answers_differ = False
        self._kind: RowKind | None = None

    def accept(self, line: int, row: TrainingRow) -> None:
        self._kind = self._kind or row.kind
        if row.kind is not self._kind:
            self.refuse(_mixed_kinds(line, self._kind))
            return
        self.usable_rows += 1
        words = max(map(_words_read, row.conversations))
        if self._longest is None or words > self._longest.words:
            self._longest = LongestRow(line, words)
        for code, path in oddities(row):
            self._warn(line, path, code)
        exact, near = self._seen.earlier(line, row)
        if exact is not None:
            self._warn(line, row.place, RowCode.DUPLICATE_ROW, f"the same as line {exact}")
        elif near is not None:
            self._warn(line, row.place, RowCode.NEAR_DUPLICATE_ROW, f"nearly line {near}")
        self._compare_answer(row)

    def refuse(self, error: RowError) -> None:
        self.error_count += 1
        self._on_finding("error", error)
        if len(self._errors) < REPORTED_ERRORS:
            self._errors.append(error)

    def finished(self) -> ValidationReport:
        if 0 < self.usable_rows < FEW_ROWS:
            self._warn(None, "", RowCode.TOO_FEW_ROWS)
        if self.usable_rows > 1 and not self._answers_differ:
            self._warn(None, "", RowCode.IDENTICAL_ANSWERS)
        return ValidationReport(
            self.rows,
            self.usable_rows,
            tuple(self._errors),
            self.error_count,
            self._longest,
            tuple(self._warnings),
            self._warning_count,
            self._kind,
        )

    def _compare_answer(self, row: TrainingRow) -> None:
        if self._answers_differ:
            return
        learned = row.conversations[0]
        answers = [message.content for message in learned if message.role is Role.ASSISTANT]
        if self._only_answer is None:
            self._only_answer = answers[-1]
        self._answers_differ = answers[-1] != self._only_answer

    def _warn(self, line: int | None, path: str, code: RowCode, message: str = "") -> None:
        self._warning_count += 1
        meaning, hint = WARNINGS[code]
        text = message or meaning[:1].lower() + meaning[1:].rstrip(".")
        warning = RowError(line, path, code, text, hint)
        self._on_finding("warning", warning)
        if len(self._warnings) < REPORTED_ERRORS:
            self._warnings.append(warning)


def _words_read(messages: tuple[ChatMessage, ...]) -> int:
    """Count the words that training reads: what follows the last answer is left out of it."""
    answers = [
        index for index, message in enumerate(messages) if index and message.role is Role.ASSISTANT
    ]
    read = messages[: answers[-1] + 1] if answers else ()
    return sum(len(message.content.split()) for message in read)


def _mixed_kinds(line: int, kind: RowKind) -> RowError:
    return RowError(
        line,
        "",
        RowCode.MIXED_KINDS,
        f"the rows before are of the kind {kind}, this one is not",
        "Give each kind a file of its own.",
    )


def _empty_file() -> RowError:
    return RowError(
        1, "", RowCode.EMPTY_FILE, "the file has no rows", "Write one JSON object per line."
    )


def _other_format(code: RowCode) -> RowError:
    meaning, hint = ERRORS[code]
    return RowError(1, "", code, meaning[:1].lower() + meaning[1:].rstrip("."), hint)


def _overlong_row(line: int, max_row_bytes: int) -> RowError:
    return RowError(
        line,
        "",
        RowCode.ROW_TOO_LONG,
        f"the row is longer than {max_row_bytes} bytes",
        "Split or shorten the conversation.",
    )


def _too_many_rows(line: int) -> RowError:
    return RowError(
        line,
        "",
        RowCode.TOO_MANY_ROWS,
        f"the file has more than {MAX_ROWS} rows",
        "Split the file.",
    )


def _too_many_blank_lines(line: int) -> RowError:
    return RowError(
        line,
        "",
        RowCode.TOO_MANY_BLANK_LINES,
        f"the file has more than {MAX_BLANK_LINES} blank lines",
        "Remove them.",
    )
