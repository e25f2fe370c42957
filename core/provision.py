"""What an operator sets up before the first request: projects and their keys."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from core import api_keys
from core.models import DEFAULT_SCOPES, Project, Scope
from core.repositories.api_keys import ApiKeyRepository
from core.repositories.projects import ProjectRepository

DEFAULT_PROJECT: Final = "default"


@dataclass(frozen=True)
class ProvisionedKey:
    """A new key and where it belongs; `text` is shown once and kept nowhere."""

    id: str
    project_id: str
    project_name: str
    name: str
    text: str = field(repr=False)


def ensure_project(session: Session, name: str = DEFAULT_PROJECT) -> Project:
    """Find the project of this name, or create it."""
    projects = ProjectRepository(session)
    return projects.find_by_name(name) or projects.add(name)


def create_key(
    session: Session,
    *,
    project_name: str = DEFAULT_PROJECT,
    name: str = "default",
    scopes: Iterable[Scope] = DEFAULT_SCOPES,
    lifetime: timedelta | None = None,
) -> ProvisionedKey:
    """Create an API key, and its project if there is none yet; see `issue_key`."""
    project = ensure_project(session, project_name)
    return issue_key(session, project, name=name, scopes=scopes, lifetime=lifetime)


def issue_key(
    session: Session,
    project: Project,
    *,
    name: str,
    scopes: Iterable[Scope],
    lifetime: timedelta | None,
) -> ProvisionedKey:
    """Create an API key of a project.

    Args:
        session: An open transaction.
        project: The project the key opens.
        name: What the operator calls the key.
        scopes: What the key may do.
        lifetime: How long the key works; without one, until it is revoked.
    """
    generated = api_keys.generate()
    key = ApiKeyRepository(session).add(
        project.id,
        public_id=generated.public_id,
        secret_sha256=generated.secret_sha256,
        name=name,
        scopes=scopes,
        expires_at=None if lifetime is None else datetime.now(UTC) + lifetime,
    )
    return ProvisionedKey(
        id=key.id,
        project_id=project.id,
        project_name=project.name,
        name=name,
        text=generated.text,
    )


def rotate_key(session: Session, project_id: str, key_id: str) -> str:
    """Give a key another text and return it; id, name, scopes and expiry stay.

    Raises:
        NotFoundError: The project has no such key, or it was revoked.
    """
    generated = api_keys.generate()
    ApiKeyRepository(session).replace_secret(
        project_id,
        key_id,
        public_id=generated.public_id,
        secret_sha256=generated.secret_sha256,
    )
    return generated.text
