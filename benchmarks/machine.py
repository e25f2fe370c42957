"""Facts about the machine and the code, without which a number means little."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("torch", "transformers", "peft", "sqlalchemy", "celery", "fastapi")
_ROOT = Path(__file__).parents[1]


def machine_facts() -> dict[str, object]:
    """Describe processor, memory, accelerator, versions and commit."""
    return {
        "processor": _first_value(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "memory": _first_value(Path("/proc/meminfo"), "MemTotal"),
        "accelerator": _accelerator(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _installed(name) for name in _PACKAGES},
        "commit": _commit(),
    }


def _first_value(path: Path, key: str) -> str | None:
    if not path.exists():
        return None
    for line in path.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _accelerator() -> str | None:
    try:
        import torch  # noqa: PLC0415 - most benchmarks run without it
    except ModuleNotFoundError:
        return None
    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The checked-out commit, marked if the working tree differs from it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or None
