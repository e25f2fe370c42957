"""The `job_events` table: what a job's owner can read about its course."""

from enum import StrEnum

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index
from sqlalchemy.orm import Mapped, mapped_column

from core.models.base import Base, CreatedAt, Json, check_values, text_enum


class EventLevel(StrEnum):
    """How serious an event is."""

    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class EventType(StrEnum):
    """What an event's `data` holds."""

    MESSAGE = "message"
    METRICS = "metrics"
    MODERATION_CHECKS = "moderation_checks"


class JobEvent(Base):
    """One line of a job's history; `sequence` is the order in which lines were written."""

    __tablename__ = "job_events"
    __table_args__ = (
        CheckConstraint(check_values("level", EventLevel), name="level"),
        CheckConstraint(check_values("type", EventType), name="type"),
        Index("ix_job_events_page", "job_id", "sequence"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(Identity(always=True), unique=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    fence: Mapped[int | None]
    level: Mapped[EventLevel] = mapped_column(text_enum(EventLevel))
    type: Mapped[EventType] = mapped_column(text_enum(EventType))
    message: Mapped[str]
    data: Mapped[Json | None]
    created_at: Mapped[CreatedAt]
