"""Which operating-system account a server runs as.

An ordinary user runs the servers as itself. Root cannot run Postgres: the server refuses. So root
hands Postgres to `nobody`, with one capability that lets it pass through folders which only root
may enter (a virtual environment below /root, say). No folder's permissions are ever changed.
"""

import os
from dataclasses import dataclass
from pathlib import Path

_NOBODY = 65534
# Bits of the capability sets in /proc/self/status (linux/capability.h).
_CAPABILITY_BITS = {"dac_read_search": 2, "dac_override": 1}
_SETPCAP_BIT = 8


@dataclass(frozen=True)
class ServerAccount:
    """The account of one server, as arguments for `setpriv`."""

    uid: int | None
    setpriv_arguments: tuple[str, ...] = ()

    def take_over(self, folder: Path) -> None:
        """Make `folder` private to this account."""
        folder.chmod(0o700)
        if self.uid is not None:
            os.chown(folder, self.uid, self.uid)


def own_account() -> ServerAccount:
    """The account that we run as."""
    return ServerAccount(uid=None)


def unprivileged_account() -> ServerAccount:
    """The account we run as, or `nobody` if we are root."""
    if os.geteuid() != 0:
        return own_account()
    arguments = (f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups")
    return ServerAccount(_NOBODY, arguments + _capability_arguments(_held_capabilities()))


def _held_capabilities() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    masks = {line.split(":")[0]: line.split(":")[1] for line in status if line.startswith("Cap")}
    return int(masks["CapPrm"], 16) & int(masks["CapBnd"], 16)


def _capability_arguments(held: int) -> tuple[str, ...]:
    """Choose the weakest capability that reaches private folders; none if we hold none.

    `no_setuid_fixup` is needed beside it: access(2), with which Postgres checks its own program
    file, ignores the capabilities of a process whose real user is not root unless that bit is set.
    """
    if not held >> _SETPCAP_BIT & 1:
        return ()
    for name, bit in _CAPABILITY_BITS.items():
        if held >> bit & 1:
            return (
                "--securebits=+no_setuid_fixup",
                f"--bounding-set=-all,+{name}",
                f"--inh-caps=-all,+{name}",
                f"--ambient-caps=-all,+{name}",
            )
    return ()
