"""One trainer per GPU on a machine, held by a lock that dies with its process.

Imports no torch: the pool child looks before it claims a job, so that a busy device costs a job
neither an attempt nor a line in its history.
"""

import os
from pathlib import Path

from worker.file_locks import take_lock


def lock_path(folder: Path, index: int | str) -> Path:
    """Name the lock of one of the GPUs that this process sees."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "all").replace(",", "-").replace("/", "-")
    return folder / f"cuda-{visible}-{index}.lock"


def is_device_held(folder: Path) -> bool:
    """Whether any process holds a GPU that this one would use; no lock file means no GPU yet."""
    for path in folder.glob(lock_path(folder, "*").name):
        lock = take_lock(path)
        if lock is None:
            return True
        lock.close()
    return False
