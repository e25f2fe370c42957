"""Folders in which base models are being converted, and what a killed trainer leaves of them.

Each has a lock beside it, which the kernel opens when the trainer dies. A folder or lock file whose
lock can be taken is therefore garbage, however young, and one whose lock is held is in use, however
old: a large model takes long. Imports no torch, so that the pool child can clean up.
"""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

import structlog

from worker.file_locks import take_lock

PREFIX: Final = ".converting-"
LOCK_SUFFIX: Final = ".lock"

_log = structlog.get_logger(__name__)


@contextmanager
def conversion_folder(cache: Path) -> Iterator[Path]:
    """Make an empty folder beside the converted models, and remove it with what is left in it."""
    folder = cache / f"{PREFIX}{secrets.token_hex(8)}"
    # The lock first: without it, the folder is garbage. Where files can't be locked, none ever is.
    # Another process holds it only while it takes it for a dead one's, and removes it: so wait.
    with take_lock(_lock_path(folder), wait=True) or nullcontext():
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            _remove(folder)


def remove_dead_conversions(cache: Path) -> int:
    """Remove what no process converts in any more; tell how many conversions left something.

    That can be a lock alone: of a process that died before it made its folder, or after it had
    removed it.
    """
    count = 0
    names = {path.name.removesuffix(LOCK_SUFFIX) for path in cache.glob(f"{PREFIX}*")}
    for folder in sorted(cache / name for name in names):
        lock = take_lock(_lock_path(folder))
        if lock is None:
            continue
        with lock:
            _remove(folder)
        _log.info("dead_conversion_removed", folder=folder.name)
        count += 1
    return count


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _lock_path(folder).unlink(missing_ok=True)


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}{LOCK_SUFFIX}")
