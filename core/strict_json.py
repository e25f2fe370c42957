"""JSON, read strictly: refuses what Python accepts and Postgres or a tokenizer later chokes on.

Serves request bodies and the rows of training files. A problem carries a code and the path of the
value, never the value itself.
"""

import json
import math
import re
from dataclasses import dataclass
from typing import Final

from core.errors import RequestErrorCode

MAX_DEPTH: Final = 64
_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_.\-]{1,64}")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class LocatedError(ValueError):
    """Something wrong at a place in a document.

    Attributes:
        code: Stable name of the problem, such as `duplicate_key`.
        path: Where in the document, such as `messages[1].content`; empty for the whole document.
        message: What is wrong, without any of the content.
        hint: What to do about it.
    """

    def __init__(self, code: str, path: str, message: str, hint: str) -> None:
        super().__init__(message)
        self.code = str(code)  # an enum's member would be logged as one
        self.path = path
        self.message = message
        self.hint = hint


class StrictJsonError(LocatedError):
    """Text that is not strict JSON."""


@dataclass(frozen=True)
class _NotANumber:
    """Stands where the text said NaN or Infinity, until the walk reports its path."""


class _RepeatedKeys(dict[str, object]):
    """An object that names the same key twice, until the walk reports its path."""


def parse_strict(document: bytes) -> object:
    """Parse one JSON document.

    Raises:
        StrictJsonError: Invalid UTF-8 or JSON, a byte order mark, a repeated key, a number that is
            not finite, a null character, half of a surrogate pair, or too deep a nesting.
    """
    if document.startswith(_BYTE_ORDER_MARK):
        raise StrictJsonError(
            RequestErrorCode.BYTE_ORDER_MARK,
            "",
            "the text starts with a byte order mark",
            "Save it as UTF-8 without BOM.",
        )
    try:
        text = document.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StrictJsonError(
            RequestErrorCode.INVALID_UTF8,
            "",
            f"byte {error.start + 1} is not valid UTF-8",
            "Save the text as UTF-8.",
        ) from None
    value = _load(text)
    _check(value, "", 0)
    return value


def join_path(path: str, key: str | int) -> str:
    """Extend a path by an index or a key; a key with unusual characters is not repeated."""
    if isinstance(key, int):
        return f"{path}[{key}]"
    shown = key if _PLAIN_KEY.fullmatch(key) else "<key>"
    return f"{path}.{shown}" if path else shown


def _load(text: str) -> object:
    try:
        return json.loads(
            text,
            parse_constant=lambda _: _NotANumber(),
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}" if "\n" in text.strip() else ""
        place = place or f"column {error.colno}"
        raise StrictJsonError(
            RequestErrorCode.INVALID_JSON,
            "",
            f"not valid JSON at {place}",
            "Check quotes, commas and brackets, and that the text is complete.",
        ) from None
    except RecursionError:
        raise _too_deep("") from None
    except ValueError:  # an integer with thousands of digits
        raise StrictJsonError(
            RequestErrorCode.NUMBER_TOO_LONG,
            "",
            "a number has too many digits",
            "Shorten the number.",
        ) from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    return result if len(result) == len(pairs) else _RepeatedKeys(result)


def _check(value: object, path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _too_deep(path)
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, _NotANumber) or (isinstance(value, float) and not math.isfinite(value)):
        raise StrictJsonError(
            RequestErrorCode.NUMBER_NOT_FINITE,
            path,
            "NaN, Infinity and numbers past 1.8e308 are not JSON",
            "Use a finite number or null.",
        )
    elif isinstance(value, _RepeatedKeys):
        raise StrictJsonError(
            RequestErrorCode.DUPLICATE_KEY,
            path,
            "an object names the same key twice",
            "Keep one of the two.",
        )
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_text(key, path)
            _check(item, join_path(path, key), depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, join_path(path, index), depth + 1)


def _check_text(text: str, path: str) -> None:
    if "\x00" in text:
        raise StrictJsonError(
            RequestErrorCode.NULL_CHARACTER,
            path,
            "the text holds a null character",
            "Remove \\u0000.",
        )
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise StrictJsonError(
            RequestErrorCode.LONE_SURROGATE,
            path,
            "the text holds half of a surrogate pair",
            "Write the character as UTF-8, or as both halves of the pair.",
        )


def _too_deep(path: str) -> StrictJsonError:
    return StrictJsonError(
        RequestErrorCode.NESTED_TOO_DEEP,
        path,
        f"nested deeper than {MAX_DEPTH} levels",
        "Flatten the document.",
    )
