"""Validation of a training file: row by row, in constant memory, without a tokenizer.

Says which line is wrong, where in the row, and what to do. Exact token lengths are the worker's to
check, because only it has a tokenizer. What can be told without one is the row with the most words:
with a tokenizer that does not join words, that row has at least as many tokens.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import BinaryIO, Final

from core.datasets.rows import ChatRow, Role, RowFormatError, parse_row

MAX_ROWS: Final = 1_000_000
MAX_BLANK_LINES: Final = 1_000
REPORTED_ERRORS: Final = 20
_SKIP_BYTES: Final = 1 << 16
_COMPRESSED: Final = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")


@dataclass(frozen=True)
class RowError:
    """One mistake in a training file: line number from 1, path within the row, what to do."""

    line: int
    path: str
    code: str
    message: str
    hint: str

    def sentence(self) -> str:
        """Say it in one line, as a person reads it."""
        place = f"Line {self.line}, {self.path}" if self.path else f"Line {self.line}"
        return f"{place}: {self.message}. {self.hint}"


@dataclass(frozen=True)
class LongestRow:
    """The row with the most words up to its last answer: its line number from 1, and how many."""

    line: int
    words: int


@dataclass(frozen=True)
class ValidationReport:
    """What a training file holds. `errors` are the first twenty; `error_count` counts all."""

    rows: int
    usable_rows: int
    errors: tuple[RowError, ...] = field(default=())
    error_count: int = 0
    longest_row: LongestRow | None = None

    @property
    def valid(self) -> bool:
        """Whether a job may train on the file."""
        return self.error_count == 0 and self.usable_rows > 0

    def to_json(self) -> dict[str, object]:
        """Return the report as it is stored and shown."""
        return {**asdict(self), "errors": [asdict(error) for error in self.errors]}


class _OverlongLine:
    """Stands for a line that was skipped without being held in memory."""


_Line = bytes | _OverlongLine


def validate_rows(stream: BinaryIO, *, max_row_bytes: int) -> ValidationReport:
    """Check every row of a training file; memory stays at one row."""
    report = _Tally()
    blank_lines = 0
    for number, line in enumerate(_lines(stream, max_row_bytes), start=1):
        if number == 1 and isinstance(line, bytes) and line.startswith(_COMPRESSED):
            report.refuse(_compressed_file())
            break
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
        if isinstance(line, _OverlongLine):
            report.refuse(_overlong_row(number, max_row_bytes))
            continue
        try:
            row = parse_row(line)
        except RowFormatError as error:
            report.refuse(RowError(number, error.path, error.code, error.message, error.hint))
        else:
            report.accept(number, row)
    if report.rows == 0 and report.error_count == 0:
        report.refuse(_empty_file())
    return report.finished()


def read_rows(stream: BinaryIO, *, max_row_bytes: int) -> Iterator[tuple[int, ChatRow]]:
    """Yield line number and row of a training file that has passed `validate_rows`.

    Raises:
        RowFormatError: A row is not usable after all; its message starts with the line number.
    """
    for number, line in enumerate(_lines(stream, max_row_bytes), start=1):
        if isinstance(line, _OverlongLine):
            error = _overlong_row(number, max_row_bytes)
            raise RowFormatError(error.code, "", error.sentence(), error.hint)
        if line.strip():
            try:
                yield number, parse_row(line)
            except RowFormatError as error:
                place = f"line {number}, {error.path}" if error.path else f"line {number}"
                message = f"{place}: {error.message}"
                raise RowFormatError(error.code, error.path, message, error.hint) from error


class _Tally:
    """The report while it is being counted."""

    def __init__(self) -> None:
        self.rows = 0
        self.usable_rows = 0
        self.error_count = 0
        self._errors: list[RowError] = []
        self._longest: LongestRow | None = None

    def accept(self, line: int, row: ChatRow) -> None:
        self.usable_rows += 1
        words = _words_read(row)
        if self._longest is None or words > self._longest.words:
            self._longest = LongestRow(line, words)

    def refuse(self, error: RowError) -> None:
        self.error_count += 1
        if len(self._errors) < REPORTED_ERRORS:
            self._errors.append(error)

    def finished(self) -> ValidationReport:
        return ValidationReport(
            self.rows, self.usable_rows, tuple(self._errors), self.error_count, self._longest
        )


def _words_read(row: ChatRow) -> int:
    """Count the words that training reads: what follows the last answer is left out of it."""
    answers = [
        index
        for index, message in enumerate(row.messages)
        if index and message.role is Role.ASSISTANT
    ]
    read = row.messages[: answers[-1] + 1] if answers else ()
    return sum(len(message.content.split()) for message in read)


def _lines(stream: BinaryIO, max_row_bytes: int) -> Iterator[_Line]:
    """Yield lines without their line feed; a longer one is skipped piece by piece."""
    while line := stream.readline(max_row_bytes + 1):
        if line.endswith(b"\n"):
            yield line[:-1]
        elif len(line) <= max_row_bytes:
            yield line
        else:
            while line and not line.endswith(b"\n"):
                line = stream.readline(_SKIP_BYTES)
            yield _OverlongLine()


def _empty_file() -> RowError:
    return RowError(1, "", "empty_file", "the file has no rows", "Write one JSON object per line.")


def _compressed_file() -> RowError:
    return RowError(
        1, "", "compressed_file", "the file is compressed", "Upload the JSON Lines themselves."
    )


def _overlong_row(line: int, max_row_bytes: int) -> RowError:
    return RowError(
        line,
        "",
        "row_too_long",
        f"the row is longer than {max_row_bytes} bytes",
        "Split or shorten the conversation.",
    )


def _too_many_rows(line: int) -> RowError:
    return RowError(
        line, "", "too_many_rows", f"the file has more than {MAX_ROWS} rows", "Split the file."
    )


def _too_many_blank_lines(line: int) -> RowError:
    return RowError(
        line,
        "",
        "too_many_blank_lines",
        f"the file has more than {MAX_BLANK_LINES} blank lines",
        "Remove them.",
    )
