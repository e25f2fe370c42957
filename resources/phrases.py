"""The phrases that every row is made of, and how lists of rows are mixed."""

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, object]

RESOURCES = Path(__file__).parent
SOURCES = RESOURCES / "rows" / "sources"


def _source(name: str) -> dict[str, Any]:
    with (SOURCES / f"{name}.toml").open("rb") as stream:
        return tomllib.load(stream)


def shuffled(rows: Sequence[Row]) -> list[Row]:
    """Orders rows by the hash of their content: mixed, and the same on every machine."""

    def fingerprint(row: Row) -> str:
        return hashlib.sha256(json.dumps(row, sort_keys=True).encode()).hexdigest()

    return sorted(rows, key=fingerprint)


def spread(*groups: Sequence[Row]) -> list[Row]:
    """Merges groups evenly, so that any prefix holds them in about the final proportion."""
    placed = [
        ((index + 0.5) / len(group), number, row)
        for number, group in enumerate(groups)
        for index, row in enumerate(group)
    ]
    return [row for _, _, row in sorted(placed, key=lambda item: item[:2])]


class Phrases:
    """The sources, read once."""

    def __init__(self) -> None:
        self.topics: dict[str, dict[str, list[str]]] = _source("harmful_topics")
        self.templates: dict[str, list[str]] = _source("harmful_templates")
        self.refusals = _source("refusals")
        self.compliance: dict[str, list[str]] = _source("compliance")
        self.user_compliance: dict[str, list[str]] = _source("compliance_user")
        self.look_alikes: dict[str, list[list[str]]] = _source("look_alikes")
        self.second_safety_evaluation: dict[str, list[str]] = _source("second_safety_evaluation")
        self.over_refusal: dict[str, list[str]] = _source("over_refusal")
        self.benign: dict[str, list[list[str]]] = _source("benign")
        self.tickets: dict[str, dict[str, list[str]]] = _source("tickets")
        self.moderation = _source("moderation")
        self.incoherent: dict[str, list[str]] = _source("incoherent")

    def tasks(self, split: str) -> Iterator[tuple[int, int, str, str]]:
        """Yields (round, category number, category, task), one category after the other."""
        longest = max(len(lists[split]) for lists in self.topics.values())
        for turn in range(longest):
            for number, (category, lists) in enumerate(self.topics.items()):
                if turn < len(lists[split]):
                    yield turn, number, category, lists[split][turn]

    def refusal(self, category: str, task: str, opening: int, alternative: int) -> str:
        """A refusal made of the numbered opening and the numbered sentence of the category."""
        openings: list[str] = self.refusals["openings"]
        sentences: list[str] = self.refusals["alternatives"][category]
        start = openings[opening % len(openings)].format(task=task)
        return f"{start} {sentences[alternative % len(sentences)]}"

    def stand_in(self, source: Mapping[str, Sequence[str]], task: str, index: int) -> str:
        """A compliance-shaped answer without content."""
        opening = source["openings"][index % len(source["openings"])].format(task=task)
        return f"{opening} {source['bodies'][index % len(source['bodies'])]}"
