"""Artifact storage in a folder of this machine.

An object is written under a temporary name, flushed to disk and renamed, and the folder is
flushed too: after a crash it is there completely or not at all. Symbolic links are never followed.
"""

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Final

from core.errors import (
    InvalidStorageKeyError,
    ObjectNotFoundError,
    StorageError,
    StoragePermissionError,
    StorageUnavailableError,
    is_disk_fault,
)
from core.storage.protocol import GATEWAY_PREFIXES, StoredObject

CHUNK_BYTES: Final = 1024 * 1024
TEMPORARY_FOLDER: Final = ".incoming"
LEFTOVER_AGE: Final = timedelta(hours=24)

# No part may begin with a dot: that excludes `.`, `..` and our own temporary folder at once.
_KEY_PART: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")


class LocalWriter:
    """The open end of an object on its way in."""

    def __init__(self, key: str, file: BinaryIO) -> None:
        self._key = key
        self._file = file
        self._digest = hashlib.sha256()
        self._bytes = 0
        self._stored: StoredObject | None = None

    @property
    def bytes_written(self) -> int:
        """How many bytes were written so far."""
        return self._bytes

    @property
    def stored(self) -> StoredObject:
        """The finished object; only after the `with` block ended without an error."""
        if self._stored is None:
            raise StorageError("The object is not complete yet.")
        return self._stored

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._file.write(chunk)
        self._digest.update(chunk)
        self._bytes += len(chunk)

    def finish(self) -> None:
        """Flush everything to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def publish(self) -> None:
        """Note that the object now lies under its key."""
        self._stored = StoredObject(self._key, self._digest.hexdigest(), self._bytes)


class LocalStorage:
    """An `ArtifactStorage` in the file system.

    Args:
        root: The folder; created with access for this user only.
        prefixes: First parts of the keys this process may touch. The default is the gateway's,
            which excludes what no gate has judged.
    """

    def __init__(self, root: Path, prefixes: Sequence[str] = GATEWAY_PREFIXES) -> None:
        self._root = root
        self._prefixes = tuple(prefixes)
        self._incoming = root / TEMPORARY_FOLDER
        for folder in (root, self._incoming):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._remove_leftovers()

    @contextmanager
    def writer(self, key: str) -> Iterator[LocalWriter]:
        """Stream an object in; it appears when the block ends and never if the block raises."""
        path = self._path(key)
        temporary = self._incoming / secrets.token_hex(16)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode=0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                writer = LocalWriter(key, file)
                yield writer
                writer.finish()
            self._make_folders(path.parent)
            temporary.replace(path)
            _flush_folder(path.parent)
            writer.publish()
        except OSError as error:
            if is_disk_fault(error):
                raise StorageUnavailableError("The storage cannot be written now.") from error
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def put_file(self, key: str, path: Path) -> StoredObject:
        """Copy a local file in."""
        with path.open("rb") as source, self.writer(key) as writer:
            shutil.copyfileobj(source, writer, CHUNK_BYTES)
        return writer.stored

    def put_bytes(self, key: str, content: bytes) -> StoredObject:
        """Store a small object."""
        with self.writer(key) as writer:
            writer.write(content)
        return writer.stored

    def open(self, key: str) -> BinaryIO:
        """Open an object for reading; the caller closes it."""
        path = self._path(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectNotFoundError(f"There is no object {key}.") from None
        except OSError as error:
            if is_disk_fault(error):
                raise StorageUnavailableError("The storage cannot be read now.") from error
            raise StorageError(f"The object {key} cannot be read.") from error
        return os.fdopen(descriptor, "rb")

    def read_to(self, key: str, path: Path) -> StoredObject:
        """Copy an object to a local file and hash what was read."""
        digest, size = hashlib.sha256(), 0
        with self.open(key) as source, path.open("wb") as target:
            while chunk := source.read(CHUNK_BYTES):
                target.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        return StoredObject(key, digest.hexdigest(), size)

    def exists(self, key: str) -> bool:
        """Tell whether a complete object lies under the key."""
        path = self._path(key)
        return path.is_file() and not path.is_symlink()

    def delete(self, key: str) -> None:
        """Remove an object; removing none is no error."""
        path = self._path(key)
        with suppress(FileNotFoundError):  # another process may remove the folder, too
            path.unlink()
            _flush_folder(path.parent)

    def list_keys(self, prefix: str) -> list[str]:
        """List the complete objects below a folder, such as `staging` or `staging/<job id>`."""
        folder = self._folder(prefix)
        keys: list[str] = []
        for place, _, names in os.walk(folder):  # does not follow links
            keys += [(Path(place) / name).relative_to(self._root).as_posix() for name in names]
        return sorted(keys)

    def delete_prefix(self, prefix: str) -> None:
        """Remove every object below a folder of two parts or more; removing none is no error."""
        folder = self._path(prefix)
        if folder.is_symlink():
            raise StorageError("A folder of the storage is a symbolic link.")
        while folder.is_dir():
            with suppress(FileNotFoundError):  # another process removes it at the same time
                shutil.rmtree(folder)
                _flush_folder(folder.parent)

    def copy(self, source: str, destination: str) -> StoredObject:
        """Copy an object inside the storage."""
        with self.open(source) as reader, self.writer(destination) as writer:
            shutil.copyfileobj(reader, writer, CHUNK_BYTES)
        return writer.stored

    def _folder(self, prefix: str) -> Path:
        # Any name below it passes the checks of a key.
        return self._path(f"{prefix}/any").parent

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if len(parts) < 2 or not all(_KEY_PART.fullmatch(part) for part in parts):  # noqa: PLR2004
            raise InvalidStorageKeyError(f"{key!r} is not a storage key.")
        if parts[0] not in self._prefixes:
            raise StoragePermissionError(f"This process may not touch {parts[0]}/.")
        folder = self._root
        for part in parts[:-1]:
            folder /= part
            if folder.is_symlink():
                raise StorageError("A folder of the storage is a symbolic link.")
        return folder / parts[-1]

    def _remove_leftovers(self) -> None:
        """Remove what writers left behind that were killed; a slow live one is younger."""
        oldest = time.time() - LEFTOVER_AGE.total_seconds()
        for path in self._incoming.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def _make_folders(self, folder: Path) -> None:
        """Create the folders down to an object and make their names durable."""
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            path.mkdir(mode=0o700, exist_ok=True)
            _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
