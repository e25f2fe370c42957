"""Tar archives whose bytes depend on nothing but the files in them.

Names are sorted; times, owners and modes are constants. Reading accepts exactly what writing
makes: regular files with flat names.
"""

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from core.errors import TunewardError

MODE: Final = 0o644


class UnsafeArchiveError(TunewardError):
    """An archive holds something other than plain files with plain names."""

    code = "internal_error"


def write_archive(path: Path, files: Mapping[str, bytes | Path]) -> None:
    """Write an archive of files given by content or by path."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            source = files[name]
            member = tarfile.TarInfo(name)
            member.mode = MODE
            if isinstance(source, bytes):
                member.size = len(source)
                archive.addfile(member, io.BytesIO(source))
            else:
                member.size = source.stat().st_size
                with source.open("rb") as file:
                    archive.addfile(member, file)


def extract_archive(path: Path, folder: Path) -> list[Path]:
    """Unpack an archive into a new folder; give the files.

    Raises:
        UnsafeArchiveError: It holds links, folders, or names with a path in them.
    """
    folder.mkdir(parents=True)
    files: list[Path] = []
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            target = folder / member.name
            if not member.isreg() or target.parent != folder or target.exists():
                raise UnsafeArchiveError(f"The archive holds {member.name!r}.")
            archive.extract(member, folder, filter="data")
            files.append(target)
    return files
