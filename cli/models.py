"""``tuneward models``: what jobs can name, and the work that prepares it."""

from pathlib import Path

from rich.table import Table

from cli import console
from core.model_registry import ModelRegistry
from core.settings import Settings


def show_models(settings: Settings) -> None:
    """Print the registry as a table."""
    table = Table("id", "title", "licence", "source", "aligned adapter")
    for entry in ModelRegistry.load(settings):
        aligned = entry.aligned_adapter
        table.add_row(
            f"[bold]{entry.id}[/bold]",
            entry.title,
            entry.licence,
            str(entry.source),
            f"rank {aligned.rank} on {', '.join(aligned.target_modules)}" if aligned else "none",
        )
    console.out.print(table)


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
