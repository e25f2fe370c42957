"""The worker's side of `jobs`: claims, leases and fenced writes.

All lease arithmetic happens in Postgres and by its clock. Every write carries the fence that the
claim gave; when it is no longer the job's, nothing is written and `LeaseLostError` says so.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, func, select, update
from sqlalchemy.orm import Session

from core.errors import LeaseLostError
from core.job_state import TERMINAL, JobErrorCode, JobStatus
from core.models import EventLevel, Job
from core.models.base import Json
from core.outbox import wake_worker
from core.repositories import claim_order
from core.repositories.clock import database_now
from core.repositories.job_events import JobEventRepository

# A running job that never got a lease written counts as lost after this long.
UNLEASED_GRACE = timedelta(seconds=60)

# The key of the advisory lock that claims take one after the other.
_CLAIMS: Final = 7_205_759_403

# A job that is to be cancelled as well goes back to the queue, where the reconciler ends it.
_TO_PAUSE: Final = and_(Job.pause_requested_at.is_not(None), Job.cancel_requested_at.is_(None))

NO_LEASE: dict[str, Any] = {"lease_holder": None, "lease_expires_at": None}


@dataclass(frozen=True)
class Claim:
    """The right to work on a job until the lease expires."""

    job_id: str
    project_id: str
    fence: int
    attempt: int
    holder: str
    lease_expires_at: datetime


@dataclass(frozen=True)
class HeartbeatResult:
    """What a heartbeat learns: whether the lease still holds, and whether to stop."""

    alive: bool
    cancel_requested: bool = False
    pause_requested: bool = False


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended, as written into the job."""

    status: JobStatus
    error: Json | None = None
    safety: Json | None = None
    trained_tokens: int | None = None
    archive_sha256: str | None = None
    fine_tuned_model: str | None = None
    result_file_ids: list[str] = field(default_factory=list)


class JobLeaseRepository:
    """Jobs of every project, for workers and the reconciler."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get_for_worker(self, job_id: str) -> Job | None:
        """Find any project's job, as it is in the database now."""
        return self._session.get(Job, job_id, populate_existing=True)

    def lock(self, job_id: str) -> None:
        """Keep others from changing a job, and from following it up, in this transaction."""
        self._session.execute(
            select(Job.id).where(Job.id == job_id).with_for_update(key_share=True)
        )

    def claim_next(
        self, holder: str, lease_seconds: float, *, running_limit: int | None = None
    ) -> Claim | None:
        """Take the best waiting job, by the rule of `claim_order`.

        Claims follow one another: each counts what the one before has set running.

        Args:
            holder: Name of the worker.
            lease_seconds: How long it may be silent.
            running_limit: Running jobs of a project without a limit of its own; None is no limit.
        """
        self._session.execute(select(func.pg_advisory_xact_lock(_CLAIMS)))
        now = database_now()
        best = (
            claim_order.next_job(running_limit)
            .with_for_update(of=Job, skip_locked=True)
            .scalar_subquery()
        )
        job = self._session.scalar(
            update(Job)
            .where(Job.id == best)
            .values(
                status=JobStatus.RUNNING,
                fence=Job.fence + 1,
                attempt=Job.attempt + 1,
                lease_holder=holder,
                lease_expires_at=now + timedelta(seconds=lease_seconds),
                heartbeat_at=now,
                not_before=None,
                started_at=func.coalesce(Job.started_at, now),
            )
            .returning(Job)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        if job is None or job.lease_expires_at is None:
            return None
        return Claim(job.id, job.project_id, job.fence, job.attempt, holder, job.lease_expires_at)

    def heartbeat(self, job_id: str, fence: int, lease_seconds: float) -> HeartbeatResult:
        """Prolong the lease; `alive` is false when another worker or the reconciler has the job."""
        now = database_now()
        row = self._session.execute(
            update(Job)
            .where(*_held(job_id, fence))
            .values(lease_expires_at=now + timedelta(seconds=lease_seconds), heartbeat_at=now)
            .returning(Job.cancel_requested_at, Job.pause_requested_at)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if row is None:
            return HeartbeatResult(alive=False)
        cancel, pause = (moment is not None for moment in row)
        return HeartbeatResult(alive=True, cancel_requested=cancel, pause_requested=pause)

    def release(
        self,
        job_id: str,
        fence: int,
        *,
        delay: timedelta = timedelta(0),
        count_attempt: bool = False,
    ) -> Job:
        """Give the job up: back to the queue with a wake-up, or paused if that was asked for.

        Args:
            job_id: The job.
            fence: The fence of the caller's claim.
            delay: How long the job waits before anyone may claim it.
            count_attempt: Whether this attempt counts towards the limit; a shutdown does not.

        Raises:
            LeaseLostError: The caller no longer holds the job.
        """
        job = self._write(
            job_id,
            fence,
            # Decided in the statement: the wish may come or be withdrawn at any moment before.
            status=case((_TO_PAUSE, JobStatus.PAUSED), else_=JobStatus.QUEUED),
            attempt=Job.attempt if count_attempt else func.greatest(Job.attempt - 1, 0),
            not_before=database_now() + delay if delay else None,
            estimated_finish_at=None,
            **NO_LEASE,
        )
        if job.status is JobStatus.QUEUED:
            wake_worker(self._session)
        return job

    def record_progress(
        self,
        job_id: str,
        fence: int,
        progress: Json,
        *,
        estimated_finish_at: datetime | None = None,
        trained_tokens: int | None = None,
    ) -> None:
        """Replace the job's progress; what is `None` stays as it was.

        Raises:
            LeaseLostError: The caller no longer holds the job.
        """
        values: dict[str, Any] = {"progress": progress}
        if estimated_finish_at is not None:
            values["estimated_finish_at"] = estimated_finish_at
        if trained_tokens is not None:
            values["trained_tokens"] = trained_tokens
        self._write(job_id, fence, **values)

    def finish(self, job_id: str, fence: int, outcome: Outcome) -> Job:
        """End the job; repeating the same finish after a lost answer changes nothing.

        Raises:
            LeaseLostError: The caller no longer holds the job.
            ValueError: The outcome's status does not end a job.
        """
        if outcome.status not in TERMINAL:
            msg = f"{outcome.status} does not end a job"
            raise ValueError(msg)
        try:
            return self._write(
                job_id,
                fence,
                status=outcome.status,
                error=outcome.error,
                safety=outcome.safety,
                trained_tokens=func.coalesce(outcome.trained_tokens, Job.trained_tokens),
                archive_sha256=outcome.archive_sha256,
                fine_tuned_model=outcome.fine_tuned_model,
                result_file_ids=outcome.result_file_ids,
                finished_at=database_now(),
                estimated_finish_at=None,
                **NO_LEASE,
            )
        except LeaseLostError:
            # The commit may have succeeded while its answer was lost.
            job = self.get_for_worker(job_id)
            if job is not None and (job.fence, job.status) == (fence, outcome.status):
                return job
            raise

    def take_back_expired(self, max_attempts: int) -> list[Job]:
        """Take running jobs whose lease has expired from their silent holders.

        A job goes back to the queue (a worker is woken), or is cancelled or paused if that was
        asked for, or fails with `worker_lost` after too many attempts. The fence grows, so that
        whatever the old holder still writes is refused. Each move is an event.
        """
        now = database_now()
        expiry = func.coalesce(Job.lease_expires_at, Job.started_at + UNLEASED_GRACE, now)
        jobs = self._session.scalars(
            select(Job)
            .where(Job.status == JobStatus.RUNNING, expiry <= now)
            .with_for_update(skip_locked=True, key_share=True)
            .execution_options(populate_existing=True)
        ).all()
        taken_at = self._session.scalars(select(now)).one()
        for job in jobs:
            self._take_back(job, max_attempts, taken_at)
        if any(job.status is JobStatus.QUEUED for job in jobs):
            wake_worker(self._session)
        return list(jobs)

    def cancel_queued(self) -> list[Job]:
        """Cancel jobs that went back to the queue after their owner had asked to stop them."""
        jobs = self._session.scalars(
            update(Job)
            .where(Job.status == JobStatus.QUEUED, Job.cancel_requested_at.is_not(None))
            .values(status=JobStatus.CANCELLED, finished_at=database_now())
            .returning(Job)
            .execution_options(synchronize_session=False, populate_existing=True)
        ).all()
        events = JobEventRepository(self._session)
        for job in jobs:
            events.append(job.id, message="Job cancelled.")
        return list(jobs)

    def count_claimable(self, *, running_limit: int | None = None) -> int:
        """Count the waiting jobs that no delay, no wish to cancel and no limit holds back."""
        jobs = claim_order.claimable(running_limit)
        return self._session.scalar(select(func.count()).select_from(jobs)) or 0

    def is_held(self, job_id: str, fence: int) -> bool:
        """Tell whether this fence still holds the job."""
        return self._session.scalar(select(Job.id).where(*_held(job_id, fence))) is not None

    def _write(self, job_id: str, fence: int, **values: Any) -> Job:  # noqa: ANN401
        job = self._session.scalar(
            update(Job)
            .where(*_held(job_id, fence))
            .values(**values)
            .returning(Job)
            .execution_options(synchronize_session=False, populate_existing=True)
        )
        if job is None:
            raise LeaseLostError(f"Job {job_id} is no longer held with fence {fence}.")
        return job

    def _take_back(self, job: Job, max_attempts: int, now: datetime) -> None:
        job.fence += 1
        job.lease_holder = job.lease_expires_at = job.estimated_finish_at = None
        if job.cancel_requested_at is not None:
            job.status = JobStatus.CANCELLED
            message, level = "Job cancelled.", EventLevel.INFO
        elif job.attempt >= max_attempts:
            job.status = JobStatus.FAILED
            message = f"The worker stopped answering in each of {job.attempt} attempts."
            level = EventLevel.ERROR
            job.error = {"code": JobErrorCode.WORKER_LOST.value, "message": message, "param": None}
        elif job.pause_requested_at is not None:
            job.status = JobStatus.PAUSED
            message, level = "The worker was lost; the job is paused.", EventLevel.WARN
        else:
            job.status = JobStatus.QUEUED
            message, level = "The worker was lost; the job waits again.", EventLevel.WARN
        if job.status in TERMINAL:
            job.finished_at = now
        self._session.flush()
        JobEventRepository(self._session).append(job.id, message=message, level=level)


def _held(job_id: str, fence: int) -> tuple[ColumnElement[bool], ...]:
    return (Job.id == job_id, Job.fence == fence, Job.status == JobStatus.RUNNING)
