"""``tuneward keys`` and ``tuneward projects``.

Every import of our own stands inside a command, so ``--help`` is instant.
"""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer

from cli.configuration import HomeOption, read_settings
from cli.console import failures_as_exit_codes

keys_app = typer.Typer(help="API keys of projects.", no_args_is_help=True)
projects_app = typer.Typer(help="Projects and their limits.", no_args_is_help=True)


class ScopeName(StrEnum):
    """The scopes as the command line spells them; `core.models.Scope` costs an import."""

    READ = "read"
    TRAIN = "train"
    ADMIN = "admin"


KeyArgument = Annotated[str, typer.Argument(metavar="KEY_ID", help="Id, as `keys list` shows it.")]
LimitOption = Annotated[int | None, typer.Option(min=0, show_default="the setting's")]


@keys_app.command("create")
def create_key(
    project: Annotated[str, typer.Option(help="Project; created if there is none of that name.")],
    name: Annotated[str, typer.Option(help="What the key is for.")],
    scope: Annotated[
        list[ScopeName] | None,
        typer.Option(help="What it may do; repeat for several.", show_default="read, train"),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=3660, help="How long it works; else until revoked.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Create an API key and print it, this once, to standard output."""
    with failures_as_exit_codes():
        from cli.keys import create  # noqa: PLC0415

        lifetime = None if days is None else timedelta(days=days)
        create(read_settings(home=home), project, name, scopes=scope, lifetime=lifetime)


@keys_app.command("list")
def list_keys(
    project: Annotated[str | None, typer.Option(help="Only keys of this project.")] = None,
    home: HomeOption = None,
) -> None:
    """Show keys, revoked ones too, without their secrets."""
    with failures_as_exit_codes():
        from cli.keys import show_keys  # noqa: PLC0415

        show_keys(read_settings(home=home), project)


@keys_app.command("rotate")
def rotate_key(key_id: KeyArgument, home: HomeOption = None) -> None:
    """Give a key another secret and print it, this once; the old one ends at once."""
    with failures_as_exit_codes():
        from cli.keys import rotate  # noqa: PLC0415

        rotate(read_settings(home=home), key_id)


@keys_app.command("revoke")
def revoke_key(key_id: KeyArgument, home: HomeOption = None) -> None:
    """Make a key useless from now on."""
    with failures_as_exit_codes():
        from cli.keys import revoke  # noqa: PLC0415

        revoke(read_settings(home=home), key_id)


@projects_app.command("list")
def list_projects(home: HomeOption = None) -> None:
    """Show projects with the limits in force."""
    with failures_as_exit_codes():
        from cli.projects import show_projects  # noqa: PLC0415

        show_projects(read_settings(home=home))


@projects_app.command("create")
def create_project(
    name: Annotated[str, typer.Argument(help="Its name, which no other project has.")],
    running_jobs: LimitOption = None,
    queued_jobs: LimitOption = None,
    stored_bytes: LimitOption = None,
    file_rows: LimitOption = None,
    home: HomeOption = None,
) -> None:
    """Create a project, with limits of its own where they are given, and print its id."""
    with failures_as_exit_codes():
        from cli.projects import create  # noqa: PLC0415

        limits = {
            "running_jobs_limit": running_jobs,
            "queued_jobs_limit": queued_jobs,
            "stored_bytes_limit": stored_bytes,
            "file_rows_limit": file_rows,
        }
        create(read_settings(home=home), name, limits)
