"""Archives as a hostile or broken gateway might send them."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from cli.demo.adapter import require_hash, unpack
from cli.errors import DemoError

ADAPTER = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}


def archive_of(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def plain(files: dict[str, bytes]) -> list[tuple[tarfile.TarInfo, bytes]]:
    return [(tarfile.TarInfo(name), content) for name, content in files.items()]


def test_an_adapter_is_unpacked_and_what_lay_there_before_is_gone(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "adapter.tar", plain(ADAPTER))
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "old.txt").touch()

    unpacked = unpack(archive, folder)

    assert unpacked == folder
    assert sorted(path.name for path in folder.iterdir()) == sorted(ADAPTER)


def test_an_adapter_inside_a_folder_of_the_archive_is_found(tmp_path: Path) -> None:
    nested = {f"my-adapter/{name}": content for name, content in ADAPTER.items()}
    archive = archive_of(tmp_path / "adapter.tar", plain(nested))

    unpacked = unpack(archive, tmp_path / "adapter")

    assert unpacked == tmp_path / "adapter" / "my-adapter"


@pytest.mark.parametrize("name", ["../escaped.txt", "a/../../escaped.txt"])
def test_a_member_that_would_leave_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    archive = archive_of(tmp_path / "adapter.tar", plain({**ADAPTER, name: b"x"}))

    with pytest.raises(DemoError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "deep" / "adapter")

    assert list(tmp_path.rglob("escaped.txt")) == []


def test_an_absolute_name_lands_inside_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "escaped.txt"
    archive = archive_of(tmp_path / "adapter.tar", plain({**ADAPTER, str(outside): b"x"}))

    unpack(archive, tmp_path / "deep" / "adapter")

    assert not outside.exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    odd = tarfile.TarInfo("odd")
    odd.type, odd.linkname = kind, "/etc/passwd"
    archive = archive_of(tmp_path / "adapter.tar", [*plain(ADAPTER), (odd, b"")])

    with pytest.raises(DemoError, match="no plain file: odd"):
        unpack(archive, tmp_path / "adapter")


def test_an_archive_with_too_many_members_is_refused(tmp_path: Path) -> None:
    many = {f"file-{number}": b"" for number in range(65)}
    archive = archive_of(tmp_path / "adapter.tar", plain(many))

    with pytest.raises(DemoError, match="larger than any adapter"):
        unpack(archive, tmp_path / "adapter")


def test_an_archive_without_weights_is_no_adapter(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "adapter.tar", plain({"adapter_config.json": b"{}"}))

    with pytest.raises(DemoError, match="no PEFT adapter"):
        unpack(archive, tmp_path / "adapter")


def test_bytes_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "adapter.tar"
    archive.write_bytes(b'{"error": {}}')

    with pytest.raises(DemoError, match="cannot be unpacked"):
        unpack(archive, tmp_path / "adapter")


def test_the_announced_hash_must_be_the_files_own(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    right = hashlib.sha256(b"bytes").hexdigest()

    assert require_hash(path, right) == right
    with pytest.raises(DemoError, match="was announced"):
        require_hash(path, hashlib.sha256(b"others").hexdigest())
    with pytest.raises(DemoError, match="without a SHA-256"):
        require_hash(path, None)
