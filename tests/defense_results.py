"""Results of the benchmark of defenses, made by hand."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from benchmarks.defenses.methods import ALIGNED
from defense.evaluation.outcomes import wilson_rate

LETTERS = {"harmful": "h", "refused": "r", "incoherent": "i", "safe": "s"}


def result(  # noqa: PLR0913 - a builder, called by name
    method: str,
    *,
    harm: str = "rrrrrrrrrr",
    task: str = "1111111110",
    look_alikes: str = "rsss",
    ratio: float = 0.1,
    benign: float = 1.0,
    seconds: float = 100.0,
    build: float = 0.0,
    search: float = 0.0,
    run: str = "one",
    **place: Any,  # noqa: ANN401 - task name and seed
) -> dict[str, Any]:
    """One result; outcomes are letters, the same for every source of prompts."""
    untrained = method == ALIGNED
    losses = {"harmful": 2.0, "benign": benign}
    made: dict[str, Any] = {
        "format": 1,
        "key": "k",
        "method": method,
        "task": place.get("name", "sst2"),
        "seed": None if untrained else place.get("seed", 0),
        "ratio": None if untrained else ratio,
        "run": run,
        "measured_at": "2026-01-02T03:04:05+00:00",
        "machine": {"commit": "abc", "processor": "one", "accelerator": None},
        "losses": {"initial": losses},
        "scores": {
            "harm": {source: _rates(harm) for source in ("shipped", "advbench", "xstest")},
            "over_refusal": {source: _rates(look_alikes) for source in ("shipped", "xstest")},
            "task": {
                "accuracy": asdict(wilson_rate(task.count("1"), len(task))),
                "outcomes": task,
            },
        },
    }
    if untrained:
        return made
    moved = {"norm": 0.5, "search_seconds": search, "meets_limits": True} if build else {}
    return {
        **made,
        "losses": {"initial": losses, "trained": {**losses, "harmful": 0.5}, "guarded": losses},
        "training": {
            "seconds": seconds,
            "run": run,
            "peak_memory_bytes": 2**30,
            "harmful_loss": [[0, 2.0], [4, 1.0], [8, 0.5]],
        },
        "ending": {
            "run": run,
            "build_seconds": build,
            "strength": 1.5 if build else 0.0,
            "trained_distance": 3.0,
            **moved,
        },
    }


def attribution(precision: float = 1.0, ratio: float = 0.1, seed: int = 0) -> dict[str, Any]:
    """One ranking of a user's rows."""
    return {
        "format": 1,
        "key": "k",
        "task": "sst2",
        "seed": seed,
        "ratio": ratio,
        "rows": 20,
        "planted": 2,
        "precision_at_k": precision,
        "area_under_curve": 0.987,
        "moderation_precision_at_k": 0.5,
        "planted_above_benign": 1.0,
        "clean_above_benign": 0.25,
        "seconds": 3.0,
    }


def _rates(outcomes: str) -> Mapping[str, Any]:
    shares = {
        name: asdict(wilson_rate(outcomes.count(letter), len(outcomes)))
        for name, letter in LETTERS.items()
    }
    return {**shares, "n": len(outcomes), "unique_prompts": len(outcomes), "outcomes": outcomes}
