"""A lock on a file keeps others out, also when the file is removed and made again."""

import fcntl
import threading
from pathlib import Path
from typing import BinaryIO

import pytest

from worker.file_locks import take_lock


def test_a_lock_is_held_until_its_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.lock"
    first = take_lock(path)
    assert first is not None

    while_held = take_lock(path)
    first.close()
    afterwards = take_lock(path)

    assert while_held is None
    assert afterwards is not None
    afterwards.close()


def test_who_waits_has_the_lock_once_its_holder_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    first = take_lock(path)
    assert first is not None
    timer = threading.Timer(0.1, first.close)
    timer.start()

    second = take_lock(path, wait=True)

    timer.join()
    assert first.closed
    assert second is not None
    second.close()


def test_a_lock_on_a_file_that_its_holder_removed_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.lock"
    flock, opened = fcntl.flock, list[BinaryIO]()

    def remove_first(file: BinaryIO, operation: int) -> None:
        if not opened:
            path.unlink()
        opened.append(file)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)

    lock = take_lock(path)

    assert lock is not None
    assert take_lock(path) is None
    assert opened[0].closed
    lock.close()
