"""Ties of life and death between processes, as Linux offers them."""

import ctypes
import os
import signal
from contextlib import suppress
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process as soon as its parent is gone.

    The tie is to the parent's *thread* that started this process, so that must be one that lasts.

    Args:
        parent_pid: Who started us; if it died before the tie was made, we go at once.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:
        os._exit(1)


def kill_group(leader_pid: int) -> None:
    """Kill a process group that we started, if any of it is left."""
    with suppress(ProcessLookupError):
        os.killpg(leader_pid, signal.SIGKILL)


def resident_bytes(pid: int) -> int:
    """Tell how much memory a process holds; 0 if it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/statm") as statm:  # noqa: PTH123
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
