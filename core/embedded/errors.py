"""What can go wrong with an embedded server.

EmbeddedServerError          500  embedded_server
├── MissingServerError       500  embedded_server: the wheel or a system tool is missing
├── OwnerGoneError           500  embedded_server: whoever ran the servers we used has ended
└── ServerStartError         500  embedded_server_start: not ready; carries its last log lines
"""

from pathlib import Path

from core.errors import TunewardError

_LOG_TAIL_BYTES = 4096
_LOG_TAIL_LINES = 15


class EmbeddedServerError(TunewardError):
    """An embedded server cannot do what was asked."""

    code = "embedded_server"


class MissingServerError(EmbeddedServerError):
    """A program that the embedded servers need is not installed."""


class OwnerGoneError(EmbeddedServerError):
    """The process whose servers this one used has ended, and its servers with it."""


class ServerStartError(EmbeddedServerError):
    """A server did not become ready."""

    code = "embedded_server_start"

    def __init__(self, name: str, reason: str, log_path: Path) -> None:
        self.log_tail = tail_of(log_path)
        lines = "\n".join(f"  {line}" for line in self.log_tail) or "  (empty)"
        super().__init__(f"{name} {reason}. Last lines of {log_path}:\n{lines}")


def tail_of(log_path: Path) -> list[str]:
    """Return the last lines of a log, however large the file is."""
    if not log_path.exists():
        return []
    with log_path.open("rb") as log:
        log.seek(0, 2)
        log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
        return log.read().decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
