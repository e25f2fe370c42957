"""The `files` table: what users upload and what jobs hand out."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, CreatedAt, Json, check_values, text_enum


class FileStatus(StrEnum):
    """Whether the rows of a file have been checked."""

    UPLOADED = "uploaded"
    PROCESSED = "processed"
    ERROR = "error"


class FileKind(StrEnum):
    """Where a file comes from, which decides who may read it."""

    UPLOAD = "upload"
    VALIDATION_REPORT = "validation_report"
    METRICS = "metrics"
    REPORT = "report"
    ANSWERS = "answers"
    ADAPTER_ARCHIVE = "adapter_archive"


class File(Base):
    """A file that a project can see.

    An adapter archive exists as a row only once the gate has released exactly its bytes; the
    trigger `files_guard_archive` refuses any other.
    """

    __tablename__ = "files"
    __table_args__ = (
        CheckConstraint(check_values("status", FileStatus), name="status"),
        CheckConstraint(check_values("kind", FileKind), name="kind"),
        CheckConstraint("bytes >= 0", name="bytes"),
        CheckConstraint(
            "kind IN ('upload', 'validation_report') OR job_id IS NOT NULL", name="origin"
        ),
        CheckConstraint(
            "starts_with(storage_key, CASE WHEN kind IN ('upload', 'validation_report')"
            " THEN 'uploads/' ELSE 'released/' END)",
            name="storage_key",
        ),
        # Lets a job's row name a file of its own project and of no other.
        UniqueConstraint("project_id", "id"),
        Index("ix_files_page", "project_id", "created_at", "id"),
        Index(
            "ix_files_expiry",
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL AND deleted_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    job_id: Mapped[str | None] = mapped_column(
        ForeignKey("jobs.id", use_alter=True, name="fk_files_job_id_jobs")
    )
    kind: Mapped[FileKind] = mapped_column(text_enum(FileKind))
    filename: Mapped[str]
    purpose: Mapped[str]
    bytes: Mapped[int]
    sha256: Mapped[str]
    storage_key: Mapped[str] = mapped_column(unique=True)
    status: Mapped[FileStatus] = mapped_column(text_enum(FileStatus))
    validation: Mapped[Json | None]
    validation_report_id: Mapped[str | None] = mapped_column(ForeignKey("files.id"))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
