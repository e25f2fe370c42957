"""Reads and writes of `gate_decisions`."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.errors import LeaseLostError
from core.ids import new_id
from core.job_state import JobStatus, Verdict
from core.models import GateDecision, Job
from core.models.base import Json


class GateDecisionRepository:
    """Verdicts on archives; written once, never changed."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def record(
        self,
        job_id: str,
        fence: int,
        *,
        archive_sha256: str,
        verdict: Verdict,
        policy: Json,
        reasons: Sequence[Any],
    ) -> GateDecision:
        """Write the verdict on an archive; the first verdict on the same bytes stands.

        Raises:
            LeaseLostError: The caller no longer holds the job.
        """
        held = (
            select(Job.id)
            .where(Job.id == job_id, Job.fence == fence, Job.status == JobStatus.RUNNING)
            .with_for_update(key_share=True)
        )
        if self._session.scalar(held) is None:
            raise LeaseLostError(f"Job {job_id} is no longer held with fence {fence}.")
        decision = self.find_for_worker(job_id, archive_sha256)
        if decision is None:
            decision = GateDecision(
                id=new_id("gate"),
                job_id=job_id,
                archive_sha256=archive_sha256,
                verdict=verdict,
                policy=policy,
                reasons=list(reasons),
            )
            self._session.add(decision)
            self._session.flush()
        return decision

    def find_for_worker(self, job_id: str, archive_sha256: str) -> GateDecision | None:
        """Find the verdict on these bytes."""
        return self._session.scalar(
            select(GateDecision).where(
                GateDecision.job_id == job_id, GateDecision.archive_sha256 == archive_sha256
            )
        )

    def is_released(self, project_id: str, job_id: str, archive_sha256: str) -> bool:
        """Tell whether exactly these bytes of a project's job may be handed out."""
        statement = (
            select(GateDecision.id)
            .join(Job, Job.id == GateDecision.job_id)
            .where(
                Job.project_id == project_id,
                GateDecision.job_id == job_id,
                GateDecision.archive_sha256 == archive_sha256,
                GateDecision.verdict == Verdict.RELEASED,
            )
        )
        return self._session.scalar(statement) is not None
