"""Routes under `/v1/organization/projects`. No SQL and no rules here: see `service.py`."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.admin import service
from api.admin.schemas import (
    KEY_EXAMPLE,
    PROJECT_EXAMPLE,
    ApiKeyCreate,
    ApiKeyObject,
    DeletedApiKeyObject,
    NewApiKeyObject,
    ProjectCreate,
    ProjectObject,
    ProjectUpdate,
)
from api.dependencies import KeyIdPath, ProjectIdPath, SessionDep, SettingsDep
from api.errors import declares
from api.json_body import body_of, documented_body
from api.pagination import AfterQuery, LimitQuery, ListPage
from api.security import ADMINISTERS
from core.errors import ConflictError, InvalidRequestError, NotFoundError, PayloadTooLargeError

router = APIRouter(
    prefix="/organization/projects", tags=["Projects and keys"], dependencies=[ADMINISTERS]
)

_KEYS = "/{project_id}/api_keys"


@router.get(
    "",
    operation_id="listProjects",
    summary="List projects",
    responses=declares(InvalidRequestError),
)
def list_projects(
    session: SessionDep, settings: SettingsDep, after: AfterQuery = None, limit: LimitQuery = 20
) -> ListPage[ProjectObject]:
    """List the server's projects, newest first, with the limits in force."""
    return service.list_projects(session, settings, after=after, limit=limit)


@router.post(
    "",
    operation_id="createProject",
    summary="Create a project",
    responses=declares(ConflictError, InvalidRequestError, PayloadTooLargeError),
    openapi_extra=documented_body(ProjectCreate, PROJECT_EXAMPLE),
)
def create_project(
    session: SessionDep,
    settings: SettingsDep,
    body: Annotated[ProjectCreate, Depends(body_of(ProjectCreate))],
) -> ProjectObject:
    """Create a project; `quotas` are limits of its own."""
    return service.create_project(session, settings, body)


@router.get(
    "/{project_id}",
    operation_id="retrieveProject",
    summary="Retrieve a project",
    responses=declares(NotFoundError),
)
def retrieve_project(
    session: SessionDep, settings: SettingsDep, project_id: ProjectIdPath
) -> ProjectObject:
    """Show one project with the limits in force."""
    return service.retrieve_project(session, settings, project_id)


@router.post(
    "/{project_id}",
    operation_id="updateProject",
    summary="Update a project",
    responses=declares(ConflictError, InvalidRequestError, NotFoundError, PayloadTooLargeError),
    openapi_extra=documented_body(ProjectUpdate, PROJECT_EXAMPLE),
)
def update_project(
    session: SessionDep,
    settings: SettingsDep,
    project_id: ProjectIdPath,
    body: Annotated[ProjectUpdate, Depends(body_of(ProjectUpdate))],
) -> ProjectObject:
    """Change a project's name or limits; a limit of null is the server's default again."""
    return service.update_project(session, settings, project_id, body)


@router.get(
    _KEYS,
    operation_id="listProjectApiKeys",
    summary="List a project's keys",
    responses=declares(InvalidRequestError, NotFoundError),
)
def list_keys(
    session: SessionDep,
    project_id: ProjectIdPath,
    after: AfterQuery = None,
    limit: LimitQuery = 20,
) -> ListPage[ApiKeyObject]:
    """List a project's keys that are not revoked, newest first, without their secrets."""
    return service.list_keys(session, project_id, after=after, limit=limit)


@router.post(
    _KEYS,
    operation_id="createProjectApiKey",
    summary="Create a key",
    responses=declares(InvalidRequestError, NotFoundError, PayloadTooLargeError),
    openapi_extra=documented_body(ApiKeyCreate, KEY_EXAMPLE),
)
def create_key(
    session: SessionDep,
    project_id: ProjectIdPath,
    body: Annotated[ApiKeyCreate, Depends(body_of(ApiKeyCreate))],
) -> NewApiKeyObject:
    """Create a key; this answer is the only one that holds its `value`."""
    return service.create_key(session, project_id, body)


@router.get(
    _KEYS + "/{key_id}",
    operation_id="retrieveProjectApiKey",
    summary="Retrieve a key",
    responses=declares(NotFoundError),
)
def retrieve_key(session: SessionDep, project_id: ProjectIdPath, key_id: KeyIdPath) -> ApiKeyObject:
    """Show one key without its secret."""
    return service.retrieve_key(session, project_id, key_id)


@router.delete(
    _KEYS + "/{key_id}",
    operation_id="deleteProjectApiKey",
    summary="Revoke a key",
    responses=declares(NotFoundError),
)
def revoke_key(
    session: SessionDep, project_id: ProjectIdPath, key_id: KeyIdPath
) -> DeletedApiKeyObject:
    """Revoke a key: it opens nothing from now on."""
    return service.revoke_key(session, project_id, key_id)


@router.post(
    _KEYS + "/{key_id}/rotate",
    operation_id="rotateProjectApiKey",
    summary="Rotate a key",
    responses=declares(NotFoundError),
)
def rotate_key(
    session: SessionDep, project_id: ProjectIdPath, key_id: KeyIdPath
) -> NewApiKeyObject:
    """Give a key another `value`; the old one opens nothing from now on."""
    return service.rotate_key(session, project_id, key_id)
