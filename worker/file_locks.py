"""Locks on files, which the kernel opens when the process that holds them dies."""

import fcntl
import os
from pathlib import Path
from typing import BinaryIO


def take_lock(path: Path, *, wait: bool = False) -> BinaryIO | None:
    """Hold a lock for as long as the returned file stays open; whoever holds it may remove it.

    Args:
        path: The file; made if it is not there.
        wait: Until another process lets go.

    Returns:
        The open file, or None if another process holds the lock or files can't be locked here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        lock = path.open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            lock.close()
            return None
        if _is_at(path, lock):
            return lock
        lock.close()  # its holder has removed it; a lock on it keeps nobody out


def _is_at(path: Path, lock: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock.fileno()))
    except FileNotFoundError:
        return False
