"""The `projects` table: the tenants."""

from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, CreatedAt


class Project(Base):
    """A tenant: every file and job belongs to exactly one."""

    __tablename__ = "projects"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[CreatedAt]
