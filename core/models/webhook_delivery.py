"""The `webhook_deliveries` table: what is sent to endpoints, and how that went."""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, CreatedAt, check_values, text_enum
from core.models.webhook_endpoint import WebhookEventType


class DeliveryStatus(StrEnum):
    """Whether an event has reached its endpoint."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class WebhookDelivery(Base):
    """One event on its way to one endpoint.

    The trigger `jobs_announce_end` writes the rows of a job's end; a test event has no job.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        CheckConstraint(check_values("event_type", WebhookEventType), name="event_type"),
        CheckConstraint(check_values("status", DeliveryStatus), name="status"),
        CheckConstraint("(status = 'pending') = (next_attempt_at IS NOT NULL)", name="pending"),
        CheckConstraint("(status = 'pending') = (finished_at IS NULL)", name="finished"),
        Index("ix_webhook_deliveries_page", "endpoint_id", "created_at", "id"),
        Index("ix_webhook_deliveries_job_id", "job_id"),
        Index(
            "ix_webhook_deliveries_due",
            "next_attempt_at",
            postgresql_where=text("status = 'pending'"),
        ),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("webhook_endpoints.id", ondelete="CASCADE"))
    event_id: Mapped[str]
    event_type: Mapped[WebhookEventType] = mapped_column(text_enum(WebhookEventType))
    event_created_at: Mapped[CreatedAt]
    job_id: Mapped[str | None] = mapped_column(ForeignKey("jobs.id"))
    status: Mapped[DeliveryStatus] = mapped_column(
        text_enum(DeliveryStatus), server_default="pending"
    )
    attempt: Mapped[int] = mapped_column(server_default="0")
    status_code: Mapped[int | None]
    error: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    last_attempt_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime | None] = mapped_column(server_default=func.clock_timestamp())
    finished_at: Mapped[datetime | None]
