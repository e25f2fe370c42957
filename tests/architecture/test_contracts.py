"""The doors between the rooms are held by import-linter, and its contracts have teeth."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("api", "core", "worker", "defense", "cli", "resources", "migrations")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-logo"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def copied_rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source in which a test may plant what is forbidden."""
    copy = tmp_path_factory.mktemp("rooms")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for source in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        target = copy / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    return copy


def test_every_contract_is_kept() -> None:
    done = lint_imports(ROOT)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("module", "statement", "contract"),
    [
        ("api/planted.py", "import worker.tasks", "gateway and worker never meet"),
        ("core/planted.py", "import api.errors", "Rooms are layered"),
        ("core/planted.py", "import defense.protocols", "start without torch"),
        ("api/planted.py", "def later():\n    import torch", "start without torch"),
        ("api/planted.py", "import celery", "never publishes"),
        ("defense/planted.py", "import sqlalchemy", "pure machine learning"),
        ("defense/planted.py", "import core.errors", "pure machine learning"),
        (
            "defense/fine_tuning/supervised/planted.py",
            "import defense.fine_tuning.panacea.config",
            "No defense imports another",
        ),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    copied_rooms: Path, module: str, statement: str, contract: str
) -> None:
    planted = copied_rooms / module
    planted.write_text(f"{statement}\n", encoding="utf-8")

    done = lint_imports(copied_rooms)

    planted.unlink()
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert done.returncode == 1
    assert any(contract in line for line in broken), done.stdout
