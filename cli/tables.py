"""Lists on standard output: a table for people, lines with tabs between columns for programs."""

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from cli import console

NARROWEST_TABLE = 60  # columns; below, nothing would be left of those beside the id


def show(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the rows; the first column is an id."""
    if console.out.is_terminal and console.out.width >= NARROWEST_TABLE:
        console.out.print(render(headings, rows))
        return
    for row in rows:
        print("\t".join(row))


def render(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return the table; an id stays on one line, other text is folded where there is no room."""
    table = Table()
    for number, heading in enumerate(headings):
        table.add_column(heading, overflow="fold", no_wrap=number == 0)
    for row_id, *others in rows:
        table.add_row(f"[bold]{escape(row_id)}[/bold]", *map(escape, others))
    return table
