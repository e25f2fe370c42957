"""The `uploads` and `upload_parts` tables: files that arrive in pieces."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, CreatedAt, check_values, text_enum


class UploadStatus(StrEnum):
    """What became of an upload in parts."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Upload(Base):
    """A file that is announced and then sent in parts.

    `file_lifetime_seconds` is how long the file will live once it is complete; None keeps it.
    """

    __tablename__ = "uploads"
    __table_args__ = (
        CheckConstraint(check_values("status", UploadStatus), name="status"),
        CheckConstraint("bytes > 0", name="bytes"),
        CheckConstraint("(status = 'completed') = (file_id IS NOT NULL)", name="completed"),
        Index("ix_uploads_pending", "expires_at", postgresql_where=text("status = 'pending'")),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    status: Mapped[UploadStatus] = mapped_column(text_enum(UploadStatus))
    filename: Mapped[str]
    purpose: Mapped[str]
    bytes: Mapped[int]
    file_lifetime_seconds: Mapped[int | None]
    file_id: Mapped[str | None] = mapped_column(ForeignKey("files.id"))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]


class UploadPart(Base):
    """One piece; the order of pieces is told at completion."""

    __tablename__ = "upload_parts"
    __table_args__ = (CheckConstraint("bytes >= 0", name="bytes"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    upload_id: Mapped[str] = mapped_column(ForeignKey("uploads.id"), index=True)
    bytes: Mapped[int]
    storage_key: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]
