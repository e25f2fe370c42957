"""Archives: the same files give the same bytes, and nothing strange comes out of one."""

import io
import os
import tarfile
from pathlib import Path

import pytest

from worker.archive import UnsafeArchiveError, extract_archive, write_archive


def tar_of(path: Path, member: tarfile.TarInfo, content: bytes = b"") -> Path:
    member.size = len(content)
    with tarfile.open(path, "w") as archive:
        archive.addfile(member, io.BytesIO(content))
    return path


def test_files_survive_the_way_through_an_archive(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"from disk")
    write_archive(tmp_path / "a.tar", {"b": tmp_path / "b", "a": b"from memory"})

    files = extract_archive(tmp_path / "a.tar", tmp_path / "out")

    assert {file.name: file.read_bytes() for file in files} == {
        "a": b"from memory",
        "b": b"from disk",
    }


def test_equal_files_give_equal_bytes_whatever_their_times_and_order(tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(b"same")
    write_archive(tmp_path / "1.tar", {"a": b"x", "b": source})
    os.utime(source, (1, 1))
    source.chmod(0o600)

    write_archive(tmp_path / "2.tar", {"b": source, "a": b"x"})

    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "folder/file"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    archive = tar_of(tmp_path / "a.tar", tarfile.TarInfo(name), b"x")

    with pytest.raises(UnsafeArchiveError):
        extract_archive(archive, tmp_path / "out")


def test_links_are_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("link")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"

    with pytest.raises(UnsafeArchiveError):
        extract_archive(tar_of(tmp_path / "a.tar", member), tmp_path / "out")
