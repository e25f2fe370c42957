"""``tuneward models``: what jobs can name, and the work that prepares it."""

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
