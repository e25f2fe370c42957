"""API keys: `tw_<public id>_<secret>`, where the secret ends in a checksum.

The public id finds the row, the secret proves the right. The checksum (CRC-32 over all before it)
lets scanners recognise a leaked key, and lets a mistyped one fail without a query. The database
keeps the SHA-256 of the secret alone: 256 random bits need no slow hash.
"""

import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.orm import Session

from core.errors import AuthenticationError
from core.ids import ALPHABET, random_text
from core.models import ApiKey
from core.repositories.api_keys import ApiKeyRepository

PREFIX: Final = "tw"
PUBLIC_LENGTH: Final = 16
SECRET_LENGTH: Final = 43  # letters and digits: 256 bits
CHECKSUM_LENGTH: Final = 6  # 62**6 exceeds 2**32

_FORM: Final = re.compile(
    rf"{PREFIX}_([0-9A-Za-z]{{{PUBLIC_LENGTH}}})_([0-9A-Za-z]{{{SECRET_LENGTH + CHECKSUM_LENGTH}}})"
)
# Compared with when no key is found, so that both answers do the same work.
_NO_SECRET: Final = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class PresentedKey:
    """A key whose form and checksum are right; whether it opens anything is another question."""

    public_id: str
    secret_sha256: str = field(repr=False)


@dataclass(frozen=True)
class GeneratedKey:
    """A new key; `text` is shown once and kept nowhere."""

    public_id: str
    secret_sha256: str = field(repr=False)
    text: str = field(repr=False)


def generate() -> GeneratedKey:
    """Make a new key."""
    public_id = random_text(PUBLIC_LENGTH)
    body = f"{PREFIX}_{public_id}_{random_text(SECRET_LENGTH)}"
    text = body + _checksum(body)
    presented = parse(text)
    return GeneratedKey(presented.public_id, presented.secret_sha256, text)


def parse(text: str) -> PresentedKey:
    """Read a key.

    Raises:
        AuthenticationError: It does not have the form of a key, or was mistyped.
    """
    match = _FORM.fullmatch(text)
    body, checksum = text[:-CHECKSUM_LENGTH], text[-CHECKSUM_LENGTH:]
    if match is None or not hmac.compare_digest(_checksum(body), checksum):
        raise _refusal()
    public_id, secret = match.groups()
    return PresentedKey(public_id, hashlib.sha256(secret.encode("ascii")).hexdigest())


def authenticate(session: Session, text: str) -> ApiKey:
    """Find the key that this text opens, and note that it was used.

    Raises:
        AuthenticationError: The key is malformed, unknown, wrong, expired or revoked; the answer
            does not say which.
    """
    presented = parse(text)
    keys = ApiKeyRepository(session)
    key = keys.find_usable(presented.public_id)
    expected = _NO_SECRET if key is None else key.secret_sha256
    if not hmac.compare_digest(expected, presented.secret_sha256) or key is None:
        raise _refusal()
    keys.mark_used(key.id)
    return key


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode("ascii", "replace")), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def _refusal() -> AuthenticationError:
    return AuthenticationError(
        "Incorrect API key provided.",
        hint="Create a key with `tuneward keys create` and send it as `Authorization: Bearer`.",
    )
