"""The command that messages name must run when it is copied from the screen."""

import sys
from pathlib import Path

import pytest

from cli.invocation import command_name


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a virtual environment that is not activated, in which the user stands."""
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    script = folder / "tuneward"
    script.write_text("#!/bin/sh\n", encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_after_make_the_script_in_the_virtual_environment_is_named(checkout: Path) -> None:
    assert (checkout / command_name()).exists()
    assert command_name() == ".venv/bin/tuneward"


def test_from_another_folder_its_whole_path_is_named(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")

    assert Path(command_name()).is_absolute() or Path("/", command_name()).exists()
    assert command_name().endswith(f"{checkout.name}/.venv/bin/tuneward")


def test_where_it_is_on_path_its_name_is_enough(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(checkout / ".venv" / "bin"))

    assert command_name() == "tuneward"


def test_another_installation_on_path_is_not_ours(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = checkout / "other"
    other.mkdir()
    (other / "tuneward").write_text("#!/bin/sh\n", encoding="utf-8")
    (other / "tuneward").chmod(0o755)
    monkeypatch.setenv("PATH", str(other))

    assert command_name() == ".venv/bin/tuneward"


def test_without_a_script_the_module_is_named(checkout: Path) -> None:
    (checkout / ".venv" / "bin" / "tuneward").unlink()

    assert command_name() == f"{sys.executable} -m cli"
