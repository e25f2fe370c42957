"""Where the data files that ship with Tuneward lie."""

from importlib.resources import files
from pathlib import Path


def resource_path(relative: str) -> Path:
    """Find a shipped file or folder, such as `models.toml` or `rows/alignment.jsonl`.

    Raises:
        FileNotFoundError: Nothing of that name ships.
        ValueError: The name leads out of the resources.
    """
    root = Path(str(files("resources"))).resolve()
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        msg = f"{relative} is not below the resources"
        raise ValueError(msg)
    if not path.exists():
        raise FileNotFoundError(path)
    return path
