"""Results on disk, one JSON file each, and trained adapters that several results share.

A file is written beside its place and then renamed, so that a result is there whole or not at all.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from defense.protocols import Tensors
from defense.training.adapter_files import read_tensors, write_tensors

FORMAT = 1
_CELLS = "cells"
_TRAININGS = "trainings"
_ATTRIBUTIONS = "attributions"
_TRAINED = "trained.safetensors"
_PROBE = "last_probe.safetensors"
_FACTS = "training.json"


@dataclass(frozen=True)
class Cell:
    """Where a result belongs.

    Attributes:
        task: The task's name.
        seed: Of the user's rows and of training; None of a model that no user has trained.
        ratio: Share of harmful rows in the user's file; None likewise.
    """

    task: str
    seed: int | None = None
    ratio: float | None = None

    @property
    def folder(self) -> Path:
        """Relative to the folder of all results."""
        if self.seed is None or self.ratio is None:
            return Path("untrained", self.task)
        return Path(f"seed-{self.seed}", self.task, f"ratio-{self.ratio:g}")


@dataclass(frozen=True)
class StoredTraining:
    """One finished training.

    Attributes:
        key: Of everything that decided it.
        weights: The adapter after it.
        last_probe: What the ending of the same defense may reuse.
        facts: What it was and what it cost, as JSON.
    """

    key: str
    weights: Tensors
    last_probe: Tensors | None
    facts: Mapping[str, Any]


class ResultStore:
    """The results in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, cell: Cell, method: str) -> Path:
        """Where the result of a method in a cell is."""
        return self.folder / _CELLS / cell.folder / f"{method}.json"

    def read(self, cell: Cell, method: str, key: str) -> dict[str, Any] | None:
        """A finished result of this key; None if there is none, or only one of another key."""
        found = _read_json(self.path(cell, method))
        return found if found is not None and found.get("key") == key else None

    def write(self, cell: Cell, method: str, key: str, result: Mapping[str, Any]) -> Path:
        """Keep a result; one of another key is replaced."""
        place = {"task": cell.task, "seed": cell.seed, "ratio": cell.ratio, "method": method}
        path = self.path(cell, method)
        _write_json(path, {"format": FORMAT, "key": key, **place, **result})
        return path

    def all_results(self) -> list[dict[str, Any]]:
        """Every result of this format, in the order of their paths."""
        return self._all(_CELLS)

    def read_attribution(self, cell: Cell, key: str) -> dict[str, Any] | None:
        """A finished ranking of a cell's rows of this key; None if there is none."""
        found = _read_json(self._attribution_path(cell))
        return found if found is not None and found.get("key") == key else None

    def write_attribution(self, cell: Cell, key: str, result: Mapping[str, Any]) -> None:
        """Keep a ranking; one of another key is replaced."""
        place = {"task": cell.task, "seed": cell.seed, "ratio": cell.ratio}
        _write_json(self._attribution_path(cell), {"format": FORMAT, "key": key, **place, **result})

    def all_attributions(self) -> list[dict[str, Any]]:
        """Every ranking of this format, in the order of their paths."""
        return self._all(_ATTRIBUTIONS)

    def _attribution_path(self, cell: Cell) -> Path:
        return self.folder / _ATTRIBUTIONS / f"{cell.folder}.json"

    def _all(self, folder: str) -> list[dict[str, Any]]:
        found = (_read_json(path) for path in sorted((self.folder / folder).rglob("*.json")))
        return [result for result in found if result is not None and result["format"] == FORMAT]

    def read_training(self, key: str) -> StoredTraining | None:
        """A finished training; None if there is none."""
        folder = self.folder / _TRAININGS / key
        facts = _read_json(folder / _FACTS)
        if facts is None:
            return None
        probe = read_tensors(folder / _PROBE)
        return StoredTraining(key, read_tensors(folder / _TRAINED), probe or None, facts)

    def write_training(self, training: StoredTraining) -> None:
        """Keep a training; its facts come last and say that it is whole."""
        folder = self.folder / _TRAININGS / training.key
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_tensors(folder / _TRAINED, training.weights)
        write_tensors(folder / _PROBE, training.last_probe or {})
        _write_json(folder / _FACTS, training.facts)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    beside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
