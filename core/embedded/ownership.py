"""Who owns the embedded servers of one TUNEWARD_HOME, and where others find them.

A lock file names the owner: the kernel frees the lock when its process ends, however it ends. The
state file beside it holds the addresses, for processes that attach, and the process ids, for the
next owner to clear up after a killed one.
"""

import contextlib
import fcntl
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from core.embedded.leftovers import ServerRecord


@dataclass(frozen=True)
class StackState:
    """What the owner of the servers tells other processes."""

    owner_pid: int
    database_url: str | None
    redis_url: str | None
    servers: tuple[ServerRecord, ...]

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """Read the state file; None if there is none, or none that makes sense."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            servers = tuple(ServerRecord(**server) for server in raw.pop("servers"))
            return cls(servers=servers, **raw)
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def write(self, path: Path) -> None:
        """Replace the state file in one step."""
        handle, name = tempfile.mkstemp(dir=path.parent, prefix="state.", suffix=".json")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(self), file)
        Path(name).replace(path)


class OwnershipLock:
    """The lock that the owner of the embedded servers holds while it lives."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None

    @property
    def is_held(self) -> bool:
        """Whether we are the owner."""
        return self._handle is not None

    def acquire(self) -> bool:
        """Become the owner, if nobody is; never waits."""
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            return False
        self._handle = handle
        return True

    def release(self) -> None:
        """Stop being the owner."""
        if self._handle is not None:
            with contextlib.suppress(OSError):
                os.close(self._handle)
            self._handle = None
