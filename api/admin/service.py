"""Projects and their keys, for whoever holds a key with the scope `admin`."""

from datetime import timedelta

from sqlalchemy.orm import Session

from api.admin.schemas import (
    ApiKeyCreate,
    ApiKeyObject,
    DeletedApiKeyObject,
    NewApiKeyObject,
    ProjectCreate,
    ProjectObject,
    ProjectUpdate,
    QuotaChanges,
    show_key,
    show_new_key,
    show_project,
)
from api.pagination import ListPage, checked_cursor, list_page
from core import provision
from core.errors import NotFoundError
from core.models import Project
from core.repositories.api_keys import ApiKeyRepository
from core.repositories.projects import ProjectRepository
from core.settings import Settings


def list_projects(
    session: Session, settings: Settings, *, after: str | None, limit: int
) -> ListPage[ProjectObject]:
    """Show a page of projects, newest first."""
    with checked_cursor():
        page = ProjectRepository(session).list_page(after=after, limit=limit)
    return list_page(page, lambda project: show_project(project, settings))


def create_project(session: Session, settings: Settings, request: ProjectCreate) -> ProjectObject:
    """Create a project.

    Raises:
        ConflictError: Another one has this name.
    """
    projects = ProjectRepository(session)
    project = projects.add(request.name)
    return show_project(projects.update(project.id, _columns(request.quotas)), settings)


def retrieve_project(session: Session, settings: Settings, project_id: str) -> ProjectObject:
    """Show one project.

    Raises:
        NotFoundError: There is no such project.
    """
    return show_project(_project(session, project_id), settings)


def update_project(
    session: Session, settings: Settings, project_id: str, request: ProjectUpdate
) -> ProjectObject:
    """Change a project's name or limits.

    Raises:
        ConflictError: Another project has the name.
        NotFoundError: There is no such project.
    """
    changes: dict[str, str | int | None] = {**_columns(request.quotas)}
    if request.name is not None:
        changes["name"] = request.name
    return show_project(ProjectRepository(session).update(project_id, changes), settings)


def list_keys(
    session: Session, project_id: str, *, after: str | None, limit: int
) -> ListPage[ApiKeyObject]:
    """Show a page of a project's keys, newest first."""
    _project(session, project_id)
    with checked_cursor():
        page = ApiKeyRepository(session).list_page(project_id, after=after, limit=limit)
    return list_page(page, show_key)


def create_key(session: Session, project_id: str, request: ApiKeyCreate) -> NewApiKeyObject:
    """Create a key of a project and show it, this once.

    Raises:
        NotFoundError: There is no such project.
    """
    seconds = request.expires_in_seconds
    issued = provision.issue_key(
        session,
        _project(session, project_id),
        name=request.name,
        scopes=request.scopes,
        lifetime=None if seconds is None else timedelta(seconds=seconds),
    )
    return show_new_key(ApiKeyRepository(session).get(project_id, issued.id), issued.text)


def retrieve_key(session: Session, project_id: str, key_id: str) -> ApiKeyObject:
    """Show one key.

    Raises:
        NotFoundError: The project has no such key.
    """
    return show_key(ApiKeyRepository(session).get(project_id, key_id))


def rotate_key(session: Session, project_id: str, key_id: str) -> NewApiKeyObject:
    """Give a key another secret and show it, this once.

    Raises:
        NotFoundError: The project has no such key.
    """
    text = provision.rotate_key(session, project_id, key_id)
    return show_new_key(ApiKeyRepository(session).get(project_id, key_id), text)


def revoke_key(session: Session, project_id: str, key_id: str) -> DeletedApiKeyObject:
    """Make a key useless from now on.

    Raises:
        NotFoundError: The project has no such key.
    """
    ApiKeyRepository(session).revoke(project_id, key_id)
    return DeletedApiKeyObject(id=key_id)


def _project(session: Session, project_id: str) -> Project:
    project = ProjectRepository(session).get(project_id)
    if project is None:
        raise NotFoundError("There is no such project.", param="project_id")
    return project


def _columns(quotas: QuotaChanges) -> dict[str, int | None]:
    """Name the columns of the limits that were sent."""
    sent = quotas.model_dump(exclude_unset=True)
    return {f"{name}_limit": limit for name, limit in sent.items()}
