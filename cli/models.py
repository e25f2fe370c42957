"""``tuneward models``: what jobs can name, and the work that prepares it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from cli import console
from core.model_registry import ModelEntry, ModelRegistry
from core.settings import Settings

HEADINGS = ("id", "title", "licence", "source", "aligned adapter")
NARROWEST_TABLE = 60  # columns; below, nothing would be left of those beside the id


def show_models(settings: Settings) -> None:
    """Print the registry: a table for people, lines with tabs between columns for programs."""
    rows = [_row(entry) for entry in ModelRegistry.load(settings)]
    if console.out.is_terminal and console.out.width >= NARROWEST_TABLE:
        console.out.print(render_models(rows))
        return
    for row in rows:
        print("\t".join(row))


def render_models(rows: Iterable[Sequence[str]]) -> Table:
    """Return the table; an id stays on one line, other text is folded where there is no room."""
    table = Table()
    for heading in HEADINGS:
        table.add_column(heading, overflow="fold", no_wrap=heading == "id")
    for model_id, *others in rows:
        table.add_row(f"[bold]{escape(model_id)}[/bold]", *map(escape, others))
    return table


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
