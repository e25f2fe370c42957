"""The two consoles of the command line, and how a failure is shown."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape

from cli.errors import CommandError

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def note(message: str) -> None:
    """Print one quiet line of progress."""
    out.print(f"[dim]·[/dim] {escape(message)}", soft_wrap=True)


def done(message: str) -> None:
    """Print one line for a step that has really happened."""
    out.print(f"[green]✓[/green] {escape(message)}", soft_wrap=True)


def warn(message: str) -> None:
    """Print a warning to standard error."""
    err.print(f"[yellow]![/yellow] {escape(message)}", soft_wrap=True)


@contextmanager
def failures_as_exit_codes() -> Iterator[None]:
    """Turn an expected error, ours or core's, into its message, its hint and exit code 1."""
    try:
        yield
    except _expected_errors() as error:
        err.print(f"[bold red]error[/bold red] {escape(str(error))}", soft_wrap=True)
        if hint := getattr(error, "hint", None):
            err.print(f"[dim]hint[/dim]  {escape(hint)}", soft_wrap=True)
        raise typer.Exit(1) from error


def _expected_errors() -> tuple[type[Exception], ...]:
    """Evaluated only once something was raised, so that a start without errors imports nothing."""
    from core.errors import TunewardError  # noqa: PLC0415
    from defense.errors import DefenseError  # noqa: PLC0415

    return CommandError, TunewardError, DefenseError
