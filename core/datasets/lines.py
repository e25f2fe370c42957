"""The lines of a file, of which none is held in memory beyond a limit."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

START_BYTES: Final = 1 << 10
_SKIP_BYTES: Final = 1 << 16


@dataclass(frozen=True)
class OverlongLine:
    """Stands for a line that was skipped without being held in memory, and knows how it starts."""

    start: bytes


def read_lines(stream: BinaryIO, max_bytes: int) -> Iterator[bytes | OverlongLine]:
    """Yield lines without their line feed; a longer one is skipped piece by piece."""
    while line := stream.readline(max_bytes + 1):
        if line.endswith(b"\n"):
            yield line[:-1]
        elif len(line) <= max_bytes:
            yield line
        else:
            start = line[:START_BYTES]
            while line and not line.endswith(b"\n"):
                line = stream.readline(_SKIP_BYTES)
            yield OverlongLine(start)
