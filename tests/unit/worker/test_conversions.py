"""A folder in which a base model is being converted goes with the process that converts."""

import fcntl
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import BinaryIO

import pytest

from worker.conversions import LOCK_SUFFIX, PREFIX, conversion_folder, remove_dead_conversions
from worker.file_locks import take_lock

CONVERTS_FOR_EVER = (
    "import sys, time; from pathlib import Path;"
    "from worker.conversions import conversion_folder;"
    "made = conversion_folder(Path(sys.argv[1]));"
    "print(made.__enter__(), flush=True); time.sleep(60)"
)


def test_what_a_killed_process_was_converting_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "model-v1").mkdir()
    command = [sys.executable, "-c", CONVERTS_FOR_EVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        (folder / "model.safetensors").write_bytes(b"half")
        removed_while_it_ran = remove_dead_conversions(tmp_path)
        existed_while_it_ran = folder.is_dir()
        process.kill()

    removed = remove_dead_conversions(tmp_path)

    assert (removed_while_it_ran, existed_while_it_ran) == (0, True)
    assert removed == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model-v1"]


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def convert() -> None:
        with conversion_folder(tmp_path) as folder:
            (folder / "model.safetensors").write_bytes(b"half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        convert()

    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_a_dead_process_left_alone_is_removed(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}0{LOCK_SUFFIX}").touch()

    removed = remove_dead_conversions(tmp_path)

    assert removed == 1
    assert list(tmp_path.iterdir()) == []


def test_a_lock_of_a_process_that_is_about_to_make_its_folder_stays(tmp_path: Path) -> None:
    path = tmp_path / f"{PREFIX}0{LOCK_SUFFIX}"

    with take_lock(path) or nullcontext():
        removed = remove_dead_conversions(tmp_path)

    assert removed == 0
    assert path.exists()


def test_a_conversion_whose_lock_is_removed_before_it_holds_it_takes_it_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock, swept = fcntl.flock, list[int]()

    def sweep_first(file: BinaryIO, operation: int) -> None:
        if not swept:
            swept.append(0)
            swept[0] = remove_dead_conversions(tmp_path)
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", sweep_first)

    with conversion_folder(tmp_path) as folder:
        swept_again = remove_dead_conversions(tmp_path)
        exists = folder.is_dir()

    assert (swept, swept_again, exists) == ([1], 0, True)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_was_never_made_holds_nothing(tmp_path: Path) -> None:
    assert remove_dead_conversions(tmp_path / "none") == 0
