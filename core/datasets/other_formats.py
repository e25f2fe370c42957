"""Files that are no JSON Lines from their first line on, and are told so once, not line by line."""

import re
from typing import Final

from core.datasets.lines import START_BYTES, OverlongLine
from core.datasets.row_codes import RowCode

_COMPRESSED: Final = (b"\x1f\x8b", b"PK\x03\x04", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# A bracket alone, or before the first object.
_ARRAY: Final = re.compile(rb"\[\s*(\{|$)")
# Anything in quotes, or a short name.
_CELL: Final = rb' *("(?:[^"]|"")*"|[^\s",;{}\[\]][^",;\t{}\[\]]{0,63})'
_TABLE: Final = re.compile(_CELL + rb"(?P<by>[,;\t])" + _CELL + rb"((?P=by)" + _CELL + rb")*")


def other_format(first: bytes | OverlongLine, second: bytes | OverlongLine) -> RowCode | None:
    """Tell by its first two lines what a file is if it is no JSON Lines; None if it may be."""
    start, following = _start(first), _start(second)
    if start.startswith(_COMPRESSED):
        return RowCode.COMPRESSED_FILE
    # Lines that are lists of turns are rows, if wrong ones.
    if _ARRAY.match(start) and not following.startswith(b"["):
        return RowCode.JSON_ARRAY
    table = _TABLE.fullmatch(start)
    if table is None or following.startswith((b"{", b"[")):
        return None
    is_table = following.startswith(b'"') or table["by"] in following
    return RowCode.CSV_FILE if is_table else None


def _start(line: bytes | OverlongLine) -> bytes:
    start = line.start if isinstance(line, OverlongLine) else line[:START_BYTES]
    return start.removeprefix(_BYTE_ORDER_MARK).strip()
