"""The `api_keys` table."""

from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import CheckConstraint, ForeignKey, text
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, CreatedAt


class Scope(StrEnum):
    """What a key may do; none implies another."""

    READ = "read"
    TRAIN = "train"
    ADMIN = "admin"


DEFAULT_SCOPES: Final = (Scope.READ, Scope.TRAIN)


class ApiKey(Base):
    """A key that opens one project; of its secret only the SHA-256 is kept."""

    __tablename__ = "api_keys"
    __table_args__ = (
        CheckConstraint(
            'jsonb_typeof(scopes) = \'array\' AND scopes <@ \'["read", "train", "admin"]\'::jsonb',
            name="scopes",
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"), index=True)
    public_id: Mapped[str] = mapped_column(unique=True)
    secret_sha256: Mapped[str]
    name: Mapped[str]
    scopes: Mapped[list[str]] = mapped_column(server_default=text('\'["read", "train"]\'::jsonb'))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
