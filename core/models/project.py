"""The `projects` table: the tenants."""

from sqlalchemy import CheckConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, CreatedAt


class Project(Base):
    """A tenant: every file and job belongs to exactly one.

    A limit that is null is the one of the settings.
    """

    __tablename__ = "projects"
    __table_args__ = tuple(
        CheckConstraint(f"{limit} >= 0", name=limit)
        for limit in (
            "running_jobs_limit",
            "queued_jobs_limit",
            "stored_bytes_limit",
            "file_rows_limit",
        )
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]
    running_jobs_limit: Mapped[int | None]
    queued_jobs_limit: Mapped[int | None]
    stored_bytes_limit: Mapped[int | None]
    file_rows_limit: Mapped[int | None]
