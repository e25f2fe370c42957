"""Reads and writes of `api_keys`."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy import func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError, NotFoundError
from core.ids import new_id
from core.models import DEFAULT_SCOPES, ApiKey, Scope
from core.repositories.clock import database_now
from core.repositories.pagination import Page, cut_page

# Writing `last_used_at` on every request would make each read request a write.
LAST_USED_RESOLUTION = timedelta(minutes=1)


class ApiKeyRepository:
    """API keys; secrets never come here, only their SHA-256."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self,
        project_id: str,
        *,
        public_id: str,
        secret_sha256: str,
        name: str,
        scopes: Iterable[Scope] = DEFAULT_SCOPES,
        expires_at: datetime | None = None,
    ) -> ApiKey:
        """Record a new key of a project."""
        key = ApiKey(
            id=new_id("key"),
            project_id=project_id,
            public_id=public_id,
            secret_sha256=secret_sha256,
            name=name,
            scopes=[scope.value for scope in scopes],
            expires_at=expires_at,
        )
        self._session.add(key)
        self._session.flush()
        return key

    def find_usable(self, public_id: str) -> ApiKey | None:
        """Find a key that is neither revoked nor expired by the database's clock."""
        return self._session.scalar(
            select(ApiKey).where(
                ApiKey.public_id == public_id,
                ApiKey.revoked_at.is_(None),
                or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > database_now()),
            )
        )

    def list_for_project(self, project_id: str) -> list[ApiKey]:
        """List a project's keys, oldest first."""
        statement = (
            select(ApiKey)
            .where(ApiKey.project_id == project_id)
            .order_by(ApiKey.created_at, ApiKey.id)
        )
        return list(self._session.scalars(statement))

    def list_page(self, project_id: str, *, after: str | None, limit: int) -> Page[ApiKey]:
        """List a project's keys that are not revoked, newest first.

        Raises:
            InvalidRequestError: `after` names no key of the project.
        """
        statement = select(ApiKey).where(
            ApiKey.project_id == project_id, ApiKey.revoked_at.is_(None)
        )
        if after is not None:
            last = self._session.scalar(
                select(ApiKey).where(ApiKey.project_id == project_id, ApiKey.id == after)
            )
            if last is None:
                raise InvalidRequestError(f"There is no API key {after}.", param="after")
            statement = statement.where(
                tuple_(ApiKey.created_at, ApiKey.id) < tuple_(last.created_at, last.id)
            )
        statement = statement.order_by(ApiKey.created_at.desc(), ApiKey.id.desc())
        return cut_page(self._session.scalars(statement.limit(limit + 1)), limit)

    def get(self, project_id: str, key_id: str) -> ApiKey:
        """Find a project's key that is not revoked.

        Raises:
            NotFoundError: The project has no such key.
        """
        key = self.find(key_id)
        if key is None or key.project_id != project_id or key.revoked_at is not None:
            raise NotFoundError("There is no such API key in this project.", param="key_id")
        return key

    def find(self, key_id: str) -> ApiKey | None:
        """Find any project's key, for the operator."""
        return self._session.get(ApiKey, key_id)

    def replace_secret(
        self, project_id: str, key_id: str, *, public_id: str, secret_sha256: str
    ) -> ApiKey:
        """Let another text open what the key opens; the old one is useless from now on.

        Raises:
            NotFoundError: The project has no such key, or it was revoked.
        """
        key = self._session.scalar(
            update(ApiKey)
            .where(
                ApiKey.id == key_id, ApiKey.project_id == project_id, ApiKey.revoked_at.is_(None)
            )
            .values(public_id=public_id, secret_sha256=secret_sha256, last_used_at=None)
            .returning(ApiKey)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        if key is None:
            raise NotFoundError("There is no such API key in this project.", param="key_id")
        return key

    def mark_used(self, key_id: str) -> None:
        """Note that the key was used, at most once a minute."""
        now = database_now()
        self._session.execute(
            update(ApiKey)
            .where(
                ApiKey.id == key_id,
                or_(
                    ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now - LAST_USED_RESOLUTION
                ),
            )
            .values(last_used_at=now)
            .execution_options(synchronize_session=False)
        )

    def revoke(self, project_id: str, key_id: str) -> None:
        """Make a key useless from now on.

        Raises:
            NotFoundError: The project has no such key.
        """
        revoked = self._session.scalar(
            update(ApiKey)
            .where(ApiKey.id == key_id, ApiKey.project_id == project_id)
            .values(revoked_at=func.coalesce(ApiKey.revoked_at, database_now()))
            .returning(ApiKey.id)
        )
        if revoked is None:
            raise NotFoundError("There is no such API key in this project.", param="key_id")
