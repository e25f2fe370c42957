"""How long the shipped base model takes to be usable: converted the first time, cached after."""

from pathlib import Path

import torch

from benchmarks.measurement import Metrics, seconds_metric, stopwatch
from core.model_registry import ModelRegistry
from core.settings import Settings
from worker.base_models import BaseModels

REPETITIONS = 3


def measure(folder: Path) -> Metrics:
    """Load the first registered model from its package, then from the cache."""
    entry = next(iter(ModelRegistry.load(Settings(home=folder))))
    cache = folder / "base_models"
    with stopwatch() as converting:
        BaseModels(cache, torch.device("cpu")).fresh(entry)
    cached = []
    for _ in range(REPETITIONS):
        with stopwatch() as watch:
            BaseModels(cache, torch.device("cpu")).fresh(entry)
        cached.append(watch.seconds)
    return {
        "first_load": seconds_metric([converting.seconds]),
        "second_load": seconds_metric(cached, claim="under 3 s"),
    }
