"""API keys from the command line: shown once, kept nowhere in the clear."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cli import console, tables
from cli.database import open_database
from core import provision
from core.database import Database
from core.errors import NotFoundError
from core.models import DEFAULT_SCOPES, ApiKey, Project, Scope
from core.repositories.api_keys import ApiKeyRepository
from core.repositories.projects import ProjectRepository
from core.settings import Settings

FIRST_KEY_NAME = "first key"
HEADINGS = ("id", "project", "name", "scopes", "state", "last used")


def create(
    settings: Settings,
    project: str,
    name: str,
    *,
    scopes: Sequence[str] | None = None,
    lifetime: timedelta | None = None,
) -> None:
    """Create a key; the key alone goes to standard output, so that a script can take it."""
    with open_database(settings) as database:
        text = new_api_key(database, project, name, lifetime, scopes or DEFAULT_SCOPES)
    console.err.print(f"A key for project {project}; it is shown this once:", markup=False)
    console.out.print(text, markup=False, soft_wrap=True)


def show_keys(settings: Settings, project_name: str | None) -> None:
    """Print the keys of one project or of all, oldest first.

    Raises:
        NotFoundError: There is no project of this name.
    """
    with open_database(settings) as database, database.session() as session:
        keys = ApiKeyRepository(session)
        rows = [
            _row(project, key)
            for project in _projects(ProjectRepository(session), project_name)
            for key in keys.list_for_project(project.id)
        ]
    tables.show(HEADINGS, rows)


def rotate(settings: Settings, key_id: str) -> None:
    """Give a key another secret; the new key alone goes to standard output.

    Raises:
        NotFoundError: There is no such key, or it was revoked.
    """
    with open_database(settings) as database, database.session() as session:
        project_id = _project_of(ApiKeyRepository(session), key_id)
        text = provision.rotate_key(session, project_id, key_id)
    console.err.print("The key was replaced; the new one is shown this once:", markup=False)
    console.out.print(text, markup=False, soft_wrap=True)


def revoke(settings: Settings, key_id: str) -> None:
    """Make a key useless from now on.

    Raises:
        NotFoundError: There is no such key.
    """
    with open_database(settings) as database, database.session() as session:
        keys = ApiKeyRepository(session)
        keys.revoke(_project_of(keys, key_id), key_id)
    console.done(f"{key_id} opens nothing any more")


def new_api_key(
    database: Database,
    project: str,
    name: str,
    lifetime: timedelta | None = None,
    scopes: Sequence[str] = DEFAULT_SCOPES,
) -> str:
    """Create a key, and its project if there is none, and return its text."""
    wanted = list(dict.fromkeys(Scope(scope) for scope in scopes))
    with database.session() as session:
        key = provision.create_key(
            session, project_name=project, name=name, scopes=wanted, lifetime=lifetime
        )
    return key.text


def first_api_key(database: Database) -> str | None:
    """Create the default project's first key and return it; None if it has one already."""
    with database.session() as session:
        project = provision.ensure_project(session)
        if ApiKeyRepository(session).list_for_project(project.id):
            return None
        return provision.create_key(session, name=FIRST_KEY_NAME).text


def _projects(projects: ProjectRepository, name: str | None) -> list[Project]:
    if name is None:
        return projects.list_all()
    project = projects.find_by_name(name)
    if project is None:
        raise NotFoundError(
            f"There is no project {name}.", hint="`tuneward projects list` shows them."
        )
    return [project]


def _project_of(keys: ApiKeyRepository, key_id: str) -> str:
    key = keys.find(key_id)
    if key is None:
        raise NotFoundError(
            f"There is no API key {key_id}.", hint="`tuneward keys list` shows their ids."
        )
    return key.project_id


def _row(project: Project, key: ApiKey) -> tuple[str, ...]:
    state = "usable"
    if key.revoked_at is not None:
        state = "revoked"
    elif key.expires_at is not None:
        is_over = key.expires_at <= datetime.now(UTC)
        state = f"{'expired' if is_over else 'until'} {_day(key.expires_at)}"
    last_used = "never" if key.last_used_at is None else _day(key.last_used_at)
    return key.id, project.name, key.name, ", ".join(key.scopes), state, last_used


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
