"""The `gate_decisions` table: which archives may leave the house, and why."""

from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.job_state import Verdict
from core.models.base import Base, CreatedAt, Json, check_values, text_enum


class GateDecision(Base):
    """The verdict on one archive of one job; bound to its bytes and never changed."""

    __tablename__ = "gate_decisions"
    __table_args__ = (
        UniqueConstraint("job_id", "archive_sha256"),
        CheckConstraint(check_values("verdict", Verdict), name="verdict"),
    )

    id: Mapped[str] = mapped_column(primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    archive_sha256: Mapped[str]
    verdict: Mapped[Verdict] = mapped_column(text_enum(Verdict))
    policy: Mapped[Json]
    reasons: Mapped[list[Any]] = mapped_column(JSONB)
    created_at: Mapped[CreatedAt]
