"""Handing out stored bytes: whole, or one range of them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from fastapi.responses import Response, StreamingResponse

from api.errors import envelope
from api.files.filenames import content_disposition
from core.errors import InvalidRequestError, ObjectNotFoundError, RequestErrorCode
from core.storage.protocol import ArtifactStorage

_CHUNK_BYTES: Final = 256 * 1024
_SINGLE_RANGE: Final = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


@dataclass(frozen=True)
class Download:
    """A stored object as it is handed out."""

    storage_key: str
    filename: str
    bytes: int
    sha256: str
    media_type: str = "application/octet-stream"


@dataclass(frozen=True)
class ByteRange:
    """Some of an object's bytes; `last` belongs to it."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many bytes it spans."""
        return self.last - self.first + 1


class UnsatisfiableRangeError(ValueError):
    """The range begins behind the end of the object."""


def requested_range(header: str | None, size: int) -> ByteRange | None:
    """Read a Range header; anything but one range of bytes asks for the whole object.

    Raises:
        UnsatisfiableRangeError: The range holds none of the object's bytes.
    """
    match = _SINGLE_RANGE.fullmatch((header or "").strip())
    if match is None or match.group(1, 2) == ("", ""):
        return None
    first_text, last_text = match.groups()
    if not first_text:  # the last so many bytes
        length = min(int(last_text), size)
        if length == 0:
            raise UnsatisfiableRangeError
        return ByteRange(size - length, size - 1)
    first = int(first_text)
    last = min(int(last_text), size - 1) if last_text else size - 1
    if last_text and int(last_text) < first:
        return None  # not a range at all: ignored, says RFC 9110
    if first >= size:
        raise UnsatisfiableRangeError
    return ByteRange(first, last)


def send(
    storage: ArtifactStorage,
    download: Download,
    *,
    range_header: str | None = None,
    if_range: str | None = None,
) -> Response:
    """Answer with the object's bytes, streamed.

    Raises:
        ObjectNotFoundError: The storage has lost them.
    """
    if not storage.exists(download.storage_key):
        raise ObjectNotFoundError("The bytes of a recorded file are gone.")
    headers = _headers(download)
    is_stale = if_range is not None and if_range != headers["etag"]
    try:
        part = None if is_stale else requested_range(range_header, download.bytes)
    except UnsatisfiableRangeError:
        return _not_satisfiable(download.bytes)
    status = HTTPStatus.OK
    if part is None:
        part = ByteRange(0, download.bytes - 1)
    else:
        status = HTTPStatus.PARTIAL_CONTENT
        headers["content-range"] = f"bytes {part.first}-{part.last}/{download.bytes}"
    headers["content-length"] = str(part.length)
    return StreamingResponse(
        _chunks(storage, download.storage_key, part),
        status_code=status,
        headers=headers,
        media_type=download.media_type,
    )


def _headers(download: Download) -> dict[str, str]:
    return {
        "accept-ranges": "bytes",
        "cache-control": "private, no-store",
        "content-disposition": content_disposition(download.filename),
        "etag": f'"{download.sha256}"',
        "x-content-sha256": download.sha256,
        "x-content-type-options": "nosniff",
    }


def _not_satisfiable(size: int) -> Response:
    return envelope(
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        f"The range lies outside the {size} bytes.",
        error_type=InvalidRequestError.type,
        code=RequestErrorCode.RANGE_NOT_SATISFIABLE,
        headers={"content-range": f"bytes */{size}"},
    )


def _chunks(storage: ArtifactStorage, key: str, part: ByteRange) -> Iterator[bytes]:
    with storage.open(key) as stored:
        stored.seek(part.first)
        left = part.length
        while left > 0 and (chunk := stored.read(min(_CHUNK_BYTES, left))):
            left -= len(chunk)
            yield chunk
