"""A laboratory with a tiny model, made-up public rows and an empty store."""

from pathlib import Path

import pytest

from benchmarks.defenses.laboratory import Laboratory
from benchmarks.defenses.public_rows import PublicRows
from benchmarks.defenses.store import ResultStore
from tests.public_rows import write_public_rows
from tests.tiny_laboratory import tiny_laboratory


@pytest.fixture
def laboratory(tmp_path: Path) -> Laboratory:
    return tiny_laboratory(tmp_path)


@pytest.fixture
def public(tmp_path: Path) -> PublicRows:
    return PublicRows(write_public_rows(tmp_path / "public"))


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return ResultStore(tmp_path / "results")
