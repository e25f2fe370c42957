"""API keys from the command line: shown once, kept nowhere in the clear."""

from datetime import timedelta

from cli import console
from cli.database import open_database
from core import provision
from core.database import Database
from core.repositories.api_keys import ApiKeyRepository
from core.settings import Settings

FIRST_KEY_NAME = "first key"


def create(settings: Settings, project: str, name: str) -> None:
    """Create a key; the key alone goes to standard output, so that a script can take it."""
    with open_database(settings) as database:
        text = new_api_key(database, project, name)
    console.err.print(f"A key for project {project}; it is shown this once:", markup=False)
    console.out.print(text, markup=False, soft_wrap=True)


def new_api_key(
    database: Database, project: str, name: str, lifetime: timedelta | None = None
) -> str:
    """Create a key, and its project if there is none, and return its text."""
    with database.session() as session:
        key = provision.create_key(session, project_name=project, name=name, lifetime=lifetime)
    return key.text


def first_api_key(database: Database) -> str | None:
    """Create the default project's first key and return it; None if it has one already."""
    with database.session() as session:
        project = provision.ensure_project(session)
        if ApiKeyRepository(session).list_for_project(project.id):
            return None
        return provision.create_key(session, name=FIRST_KEY_NAME).text
