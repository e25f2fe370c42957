"""How the user can call this very command again, for messages that name a command."""

import shutil
import sys
from pathlib import Path

NAME = "tuneward"


def command_name() -> str:
    """Return what runs this installation's command from where the user stands.

    ``make`` installs into ``.venv`` without activating it: the bare name works only for those who
    have its folder on PATH.
    """
    script = Path(sys.executable).parent / NAME
    if not script.exists():
        return f"{sys.executable} -m cli"
    found = shutil.which(NAME)
    if found is not None and Path(found).resolve() == script.resolve():
        return NAME
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)
