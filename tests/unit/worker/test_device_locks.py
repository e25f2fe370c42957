"""The lock on a GPU, as the process that wants to claim a job sees it."""

from pathlib import Path

import pytest

from worker.device_locks import is_device_held, lock_path
from worker.file_locks import take_lock


def test_a_held_device_is_seen_until_its_holder_lets_go(tmp_path: Path) -> None:
    lock = take_lock(lock_path(tmp_path, 0))
    assert lock is not None

    while_held = is_device_held(tmp_path)
    second = take_lock(lock_path(tmp_path, 0))
    lock.close()

    assert while_held
    assert second is None
    assert not is_device_held(tmp_path)


def test_looking_takes_nothing_away(tmp_path: Path) -> None:
    first = take_lock(lock_path(tmp_path, 0))
    assert first is not None
    first.close()

    is_device_held(tmp_path)

    again = take_lock(lock_path(tmp_path, 0))
    assert again is not None
    again.close()


def test_a_machine_that_never_used_a_gpu_has_none_held(tmp_path: Path) -> None:
    assert not is_device_held(tmp_path / "locks")


def test_workers_on_different_gpus_are_not_in_each_others_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    lock = take_lock(lock_path(tmp_path, 0))
    assert lock is not None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")

    held = is_device_held(tmp_path)

    lock.close()
    assert not held
