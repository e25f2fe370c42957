"""The `webhook_endpoints` table: where a project is told that its jobs have ended."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, func, true
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, CreatedAt


class WebhookEventType(StrEnum):
    """What a project can be told, in OpenAI's words."""

    SUCCEEDED = "fine_tuning.job.succeeded"
    FAILED = "fine_tuning.job.failed"
    CANCELLED = "fine_tuning.job.cancelled"


class WebhookEndpoint(Base):
    """An address of a project and the secret that signs what is sent there."""

    __tablename__ = "webhook_endpoints"
    __table_args__ = (Index("ix_webhook_endpoints_page", "project_id", "created_at", "id"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    project_id: Mapped[str] = mapped_column(ForeignKey("projects.id"))
    name: Mapped[str]
    url: Mapped[str]
    secret: Mapped[str]
    previous_secret: Mapped[str | None]
    previous_secret_until: Mapped[datetime | None]
    event_types: Mapped[list[str]]
    enabled: Mapped[bool] = mapped_column(server_default=true())
    created_at: Mapped[CreatedAt]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
