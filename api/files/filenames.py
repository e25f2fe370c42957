"""File names of clients: kept to be shown, never used as a path."""

import unicodedata
from typing import Final
from urllib.parse import quote

MAX_LENGTH: Final = 255
_FALLBACK: Final = "upload.jsonl"


def display_name(raw: str | None) -> str:
    """Keep the last part of a name, without control and direction characters."""
    last = (raw or "").replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(
        character
        for character in last
        if unicodedata.category(character)[0] not in {"C", "Z"} or character == " "
    )
    kept = kept.strip(" .")[:MAX_LENGTH]
    return kept or _FALLBACK


def content_disposition(name: str) -> str:
    """Offer a download under this name, in a header that no name can break out of."""
    plain = "".join(
        character if character.isascii() and (character.isalnum() or character in "._- ") else "_"
        for character in name
    )
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
