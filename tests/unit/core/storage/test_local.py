"""What every artifact storage must do, tried on the local one; then what only files can do."""

import hashlib
import os
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest

from core.errors import (
    InvalidStorageKeyError,
    ObjectNotFoundError,
    StorageError,
    StoragePermissionError,
)
from core.storage.local import LEFTOVER_AGE, TEMPORARY_FOLDER, LocalStorage
from core.storage.protocol import (
    WORKER_PREFIXES,
    ArtifactStorage,
    released_key,
    staging_key,
    upload_key,
)

ROWS = b'{"messages": []}\n'
ROWS_SHA256 = hashlib.sha256(ROWS).hexdigest()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def storage(root: Path) -> ArtifactStorage:
    return LocalStorage(root, WORKER_PREFIXES)


def files_in(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def read(storage: ArtifactStorage, key: str) -> bytes:
    with storage.open(key) as file:
        return file.read()


def write_and_break(storage: ArtifactStorage, key: str) -> None:
    with storage.writer(key) as writer:
        writer.write(ROWS)
        raise ConnectionError("the client went away")


def test_keys_are_made_of_the_ids_they_belong_to() -> None:
    assert upload_key("file-1") == "uploads/file-1"
    assert staging_key("ftjob-1", 7, "adapter.tar") == "staging/ftjob-1/7/adapter.tar"
    assert released_key("ftjob-1", 7, "adapter.tar") == "released/ftjob-1/7/adapter.tar"


def test_what_is_streamed_in_is_hashed_and_counted(storage: ArtifactStorage) -> None:
    with storage.writer("uploads/file-1") as writer:
        writer.write(ROWS[:5])
        seen = writer.bytes_written
        writer.write(ROWS[5:])

    assert seen == 5
    assert (writer.stored.sha256, writer.stored.bytes) == (ROWS_SHA256, len(ROWS))
    assert read(storage, "uploads/file-1") == ROWS


def test_a_stream_that_breaks_leaves_nothing(storage: ArtifactStorage, root: Path) -> None:
    with pytest.raises(ConnectionError):
        write_and_break(storage, "uploads/file-1")

    assert not storage.exists("uploads/file-1")
    assert files_in(root) == []


def test_an_unfinished_object_has_no_hash_yet(storage: ArtifactStorage) -> None:
    with storage.writer("uploads/file-1") as writer, pytest.raises(StorageError, match="complete"):
        _ = writer.stored


def test_an_object_is_not_there_before_it_is_complete(storage: ArtifactStorage) -> None:
    with storage.writer("uploads/file-1") as writer:
        writer.write(ROWS)
        during = storage.exists("uploads/file-1")

    assert not during
    assert storage.exists("uploads/file-1")


def test_a_broken_stream_keeps_the_object_that_was_there(storage: ArtifactStorage) -> None:
    storage.put_bytes("uploads/file-1", b"old")

    with pytest.raises(ConnectionError):
        write_and_break(storage, "uploads/file-1")

    assert read(storage, "uploads/file-1") == b"old"


def test_a_local_file_can_be_copied_in_and_out(storage: ArtifactStorage, tmp_path: Path) -> None:
    (tmp_path / "rows").write_bytes(ROWS)

    stored = storage.put_file("uploads/file-1", tmp_path / "rows")
    fetched = storage.read_to("uploads/file-1", tmp_path / "copy")

    assert stored == fetched
    assert stored.sha256 == ROWS_SHA256
    assert (tmp_path / "copy").read_bytes() == ROWS


def test_an_object_can_be_copied_inside_the_storage(storage: ArtifactStorage) -> None:
    staged = storage.put_bytes("staging/ftjob-1/1/adapter.tar", b"weights")

    released = storage.copy("staging/ftjob-1/1/adapter.tar", "released/ftjob-1/adapter.tar")

    assert released.sha256 == staged.sha256
    assert read(storage, "released/ftjob-1/adapter.tar") == b"weights"


def test_a_removed_object_is_gone_and_can_be_removed_again(storage: ArtifactStorage) -> None:
    storage.put_bytes("uploads/file-1", ROWS)

    storage.delete("uploads/file-1")
    storage.delete("uploads/file-1")

    assert not storage.exists("uploads/file-1")


def test_a_missing_object_is_named_in_the_error(storage: ArtifactStorage, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFoundError, match="uploads/file-1"):
        storage.open("uploads/file-1")
    with pytest.raises(ObjectNotFoundError):
        storage.read_to("uploads/file-1", tmp_path / "copy")
    with pytest.raises(ObjectNotFoundError):
        storage.copy("uploads/file-1", "uploads/file-2")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "uploads",
        "uploads/",
        "/uploads/a",
        "uploads//a",
        "uploads/../staging/a",
        "uploads/..",
        "uploads/.hidden",
        "../uploads/a",
        "uploads/a\x00b",
        "uploads/a\n",
        "uploads\\a",
        "uploads/" + "a" * 201,
        ".incoming/a",
    ],
)
def test_a_malformed_key_is_refused_by_every_method(
    storage: ArtifactStorage, tmp_path: Path, key: str
) -> None:
    (tmp_path / "rows").write_bytes(ROWS)

    for attempt in (
        lambda: storage.put_bytes(key, b""),
        lambda: storage.put_file(key, tmp_path / "rows"),
        lambda: storage.open(key),
        lambda: storage.read_to(key, tmp_path / "out"),
        lambda: storage.exists(key),
        lambda: storage.delete(key),
        lambda: storage.copy(key, "uploads/b"),
    ):
        with pytest.raises(InvalidStorageKeyError):
            attempt()


def test_the_gateways_storage_cannot_touch_what_no_gate_has_judged(
    storage: ArtifactStorage, root: Path, tmp_path: Path
) -> None:
    storage.put_bytes("staging/ftjob-1/1/adapter.tar", b"unsafe")
    gateway = LocalStorage(root)

    for attempt in (
        lambda: gateway.open("staging/ftjob-1/1/adapter.tar"),
        lambda: gateway.read_to("staging/ftjob-1/1/adapter.tar", tmp_path / "out"),
        lambda: gateway.exists("staging/ftjob-1/1/adapter.tar"),
        lambda: gateway.delete("staging/ftjob-1/1/adapter.tar"),
        lambda: gateway.copy("staging/ftjob-1/1/adapter.tar", "released/ftjob-1/adapter.tar"),
        lambda: gateway.put_bytes("staging/ftjob-1/1/adapter.tar", b""),
    ):
        with pytest.raises(StoragePermissionError):
            attempt()
    assert read(storage, "staging/ftjob-1/1/adapter.tar") == b"unsafe"


def test_a_symbolic_link_is_not_followed(
    storage: ArtifactStorage, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    storage.put_bytes("uploads/file-1", ROWS)
    (root / "uploads" / "file-2").symlink_to(tmp_path / "secret")
    (root / "released").symlink_to(tmp_path)

    with pytest.raises(StorageError):
        storage.open("uploads/file-2")
    with pytest.raises(StorageError):
        storage.open("released/secret")
    with pytest.raises(StorageError):
        storage.put_bytes("released/new", b"")
    assert not storage.exists("uploads/file-2")


def test_only_this_user_can_read_what_is_stored(storage: ArtifactStorage, root: Path) -> None:
    storage.put_bytes("staging/ftjob-1/1/a", ROWS)

    assert root.stat().st_mode & 0o777 == 0o700
    assert (root / "staging" / "ftjob-1").stat().st_mode & 0o777 == 0o700
    assert (root / "staging" / "ftjob-1" / "1" / "a").stat().st_mode & 0o777 == 0o600


def test_what_a_killed_writer_left_behind_is_removed_at_a_later_start(root: Path) -> None:
    LocalStorage(root)
    old, young = (root / TEMPORARY_FOLDER / name for name in ("old", "young"))
    old.write_bytes(b"")
    young.write_bytes(b"")
    long_ago = time.time() - (LEFTOVER_AGE + timedelta(hours=1)).total_seconds()
    os.utime(old, (long_ago, long_ago))

    LocalStorage(root)

    assert files_in(root) == [".incoming/young"]


def test_the_objects_below_a_folder_can_be_listed_and_removed_together(
    storage: ArtifactStorage, root: Path
) -> None:
    for key in (staging_key("j1", 1, "a"), staging_key("j1", 2, "b"), staging_key("j2", 1, "c")):
        storage.put_bytes(key, ROWS)
    before = storage.list_keys("staging")

    storage.delete_prefix("staging/j1")
    storage.delete_prefix("staging/j1")

    assert before == ["staging/j1/1/a", "staging/j1/2/b", "staging/j2/1/c"]
    assert storage.list_keys("staging/j1") == []
    assert files_in(root) == ["staging/j2/1/c"]


def test_two_processes_may_remove_a_folder_at_once(
    storage: ArtifactStorage, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.put_bytes(staging_key("j1", 1, "a"), ROWS)
    remove = shutil.rmtree

    def remove_second(folder: Path) -> None:
        remove(folder)  # the other process
        remove(folder)

    monkeypatch.setattr(shutil, "rmtree", remove_second)

    storage.delete_prefix("staging/j1")
    storage.delete("staging/j1/1/a")

    assert files_in(root) == []


@pytest.mark.parametrize("prefix", ["staging", "", ".", "staging/..", "staging/", "other/j1"])
def test_no_whole_prefix_and_nothing_outside_can_be_removed(
    storage: ArtifactStorage, root: Path, prefix: str
) -> None:
    storage.put_bytes(staging_key("j1", 1, "a"), ROWS)

    with pytest.raises((InvalidStorageKeyError, StoragePermissionError)):
        storage.delete_prefix(prefix)

    assert files_in(root) == ["staging/j1/1/a"]


def test_a_link_below_a_folder_is_removed_and_not_followed(
    storage: ArtifactStorage, root: Path, tmp_path: Path
) -> None:
    storage.put_bytes(staging_key("j1", 1, "a"), ROWS)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_bytes(ROWS)
    (root / "staging" / "j1" / "link").symlink_to(outside)

    storage.delete_prefix("staging/j1")

    assert (outside / "kept").exists()


def test_the_gateway_can_neither_list_nor_remove_what_no_gate_has_judged(root: Path) -> None:
    gateway = LocalStorage(root)

    with pytest.raises(StoragePermissionError):
        gateway.list_keys("staging")
    with pytest.raises(StoragePermissionError):
        gateway.delete_prefix("staging/j1")
