"""The downloaded archive: checked against the announced hash, then unpacked with care."""

import hashlib
import shutil
import tarfile
from pathlib import Path

from cli.errors import DemoError

MAX_MEMBERS = 64
MAX_UNPACKED_BYTES = 2 * 1024**3
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def require_hash(path: Path, announced: str | None) -> str:
    """Return the file's SHA-256 if it is the one that was announced.

    Raises:
        DemoError: None was announced, or another one.
    """
    actual = sha256_of(path)
    if announced is None:
        raise DemoError("The download came without a SHA-256 to check it against.")
    if announced.removeprefix("sha256:").lower() != actual:
        raise DemoError(f"The download's SHA-256 is {actual}, but {announced} was announced.")
    return actual


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a tar archive into ``folder``, replacing it, and return the PEFT folder inside.

    Only plain files and folders that stay inside ``folder`` are accepted, and not too much of them.

    Raises:
        DemoError: The archive is something else, or holds no PEFT adapter.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with tarfile.open(archive, "r:") as tar:
            members = tar.getmembers()
            _refuse_excess(members)
            tar.extractall(folder, members=members, filter="data")
    except (tarfile.TarError, OSError) as error:
        raise DemoError(f"The archive cannot be unpacked: {error}") from error
    return _adapter_folder(folder)


def _refuse_excess(members: list[tarfile.TarInfo]) -> None:
    odd = [member.name for member in members if not (member.isfile() or member.isdir())]
    if odd:
        raise DemoError(f"The archive holds something that is no plain file: {odd[0]}")
    if len(members) > MAX_MEMBERS or sum(member.size for member in members) > MAX_UNPACKED_BYTES:
        raise DemoError("The archive is larger than any adapter should be.")


def _adapter_folder(folder: Path) -> Path:
    for config in sorted(folder.rglob(ADAPTER_FILES[0])):
        if all((config.parent / name).is_file() for name in ADAPTER_FILES):
            return config.parent
    raise DemoError("The archive holds no PEFT adapter.", hint=f"it was unpacked into {folder}")
