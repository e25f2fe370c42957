"""``tuneward models``: what jobs can name, and the work that prepares it."""

from pathlib import Path

from cli import console, tables
from core.model_registry import ModelEntry, ModelRegistry
from core.settings import Settings

HEADINGS = ("id", "title", "licence", "source", "aligned adapter")


def show_models(settings: Settings) -> None:
    """Print the registry: a table for people, lines with tabs between columns for programs."""
    rows = [_row(entry) for entry in ModelRegistry.load(settings)]
    tables.show(HEADINGS, rows)


def _row(entry: ModelEntry) -> tuple[str, ...]:
    aligned = entry.aligned_adapter
    adapter = f"rank {aligned.rank} on {', '.join(aligned.target_modules)}" if aligned else "none"
    return entry.id, entry.title, entry.licence, str(entry.source), adapter


def prepare(settings: Settings, model_id: str) -> None:
    """Convert a model into the cache and print its folder to standard output."""
    folder = prepared_folder(settings, model_id)
    console.err.print(f"{model_id} is ready in", markup=False)
    console.out.print(str(folder), markup=False, soft_wrap=True)


def prepared_folder(settings: Settings, model_id: str) -> Path:
    """Return the folder with the model's plain weights, converting them first if need be."""
    import torch  # noqa: PLC0415

    from worker.base_models import BaseModels  # noqa: PLC0415

    entry = ModelRegistry.load(settings).get(model_id)
    return BaseModels(settings.base_model_cache, torch.device("cpu")).prepare(entry).folder
