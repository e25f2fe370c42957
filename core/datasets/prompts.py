"""A project's own prompts: JSON Lines, one object with a `prompt` each, perhaps a `category`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from core.datasets.lines import OverlongLine, read_lines
from core.errors import InvalidRequestError, RequestErrorCode
from core.strict_json import StrictJsonError, parse_strict

MAX_PROMPTS: Final = 1000
MAX_LINES: Final = 10_000
MAX_CATEGORY: Final = 64
NO_CATEGORY: Final = "uncategorized"


@dataclass(frozen=True)
class Prompt:
    """What the models are asked, and under which category it is counted."""

    text: str
    category: str


def read_prompts(stream: BinaryIO, max_line_bytes: int) -> Iterator[Prompt]:
    """Read a file of prompts, whose empty lines and other keys are passed over.

    Raises:
        InvalidRequestError: A line is no prompt, or there are too many or none.
    """
    count = 0
    for number, line in enumerate(read_lines(stream, max_line_bytes), start=1):
        if number > MAX_LINES:
            raise _refusal(number, f"a file holds {MAX_LINES} lines at most, empty ones included")
        if isinstance(line, OverlongLine):
            raise _refusal(number, f"the line has more than {max_line_bytes} bytes")
        if not line.strip():
            continue
        count += 1
        if count > MAX_PROMPTS:
            raise _refusal(number, f"a file holds {MAX_PROMPTS} prompts at most")
        yield _read(number, line)
    if not count:
        raise _refused("The file holds no prompts.")


def _read(number: int, line: bytes) -> Prompt:
    try:
        value = parse_strict(line)
    except StrictJsonError as error:
        place = f"{error.path}: " if error.path else ""
        raise _refusal(number, f"{place}{error.message}") from None
    if not isinstance(value, dict):
        raise _refusal(number, "the line is no JSON object")
    text, category = value.get("prompt"), value.get("category", NO_CATEGORY)
    if not isinstance(text, str) or not text.strip():
        raise _refusal(number, "prompt: there is no text")
    if not isinstance(category, str) or not 0 < len(category) <= MAX_CATEGORY:
        raise _refusal(number, f"category: it must be a text of 1 to {MAX_CATEGORY} characters")
    return Prompt(text, category)


def _refusal(number: int, problem: str) -> InvalidRequestError:
    return _refused(f"Line {number}: {problem}.")


def _refused(message: str) -> InvalidRequestError:
    return InvalidRequestError(
        message,
        param="prompts",
        code=RequestErrorCode.INVALID_PROMPTS,
        hint='Write one object on each line: {"prompt": "…"}, with a "category" if you like.',
    )
