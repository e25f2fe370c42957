"""A folder in which a base model is being converted goes with the process that converts."""

import subprocess
import sys
from pathlib import Path

import pytest

from worker.conversions import conversion_folder, remove_dead_conversions

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


def test_a_cache_that_was_never_made_holds_nothing(tmp_path: Path) -> None:
    assert remove_dead_conversions(tmp_path / "none") == 0
