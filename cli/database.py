"""The database for commands that need nothing else of the stack."""

from collections.abc import Iterator
from contextlib import contextmanager

from cli import console
from core.database import Database
from core.embedded.stack import EmbeddedStack
from core.migration import upgrade
from core.settings import Settings


def migrate(settings: Settings) -> None:
    """Bring the schema up to date."""
    with open_database(settings):
        console.done("the schema is up to date")


@contextmanager
def open_database(settings: Settings) -> Iterator[Database]:
    """Give the database with its schema up to date.

    Without a configured address that is the embedded one: of a running ``tuneward serve`` with the
    same home, or started for the length of the block.
    """
    if settings.database_url is not None:
        with _migrated(settings, settings.database_url) as database:
            yield database
        return
    with EmbeddedStack(settings) as stack, _migrated(settings, stack.database_url) as database:
        yield database


@contextmanager
def _migrated(settings: Settings, url: str) -> Iterator[Database]:
    upgrade(url)
    database = Database.from_settings(settings, url)
    try:
        yield database
    finally:
        database.dispose()
