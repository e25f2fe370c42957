"""Reads and writes of `jobs` on behalf of a project; the worker's side is `job_leases`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Select, select, tuple_
from sqlalchemy.orm import Session

from core.errors import ConflictError, InvalidRequestError, NotFoundError, RequestErrorCode
from core.ids import new_id
from core.job_state import INITIAL, TERMINAL, WAITING, JobStatus
from core.models import Job
from core.models.base import Json
from core.outbox import wake_worker
from core.repositories.clock import database_now
from core.repositories.pagination import Page, cut_page

_PAUSABLE: Final = frozenset({JobStatus.QUEUED, JobStatus.RUNNING, JobStatus.PAUSED})


@dataclass(frozen=True)
class NewJob:
    """What a client asked for, with every default filled in."""

    model: str
    training_file: str
    seed: int
    spec: Json
    validation_file: str | None = None
    suffix: str | None = None
    metadata: dict[str, str] | None = None
    priority: int = 0
    status: JobStatus = JobStatus.QUEUED
    idempotency_key: str | None = None
    request_sha256: str | None = None
    estimate: Json | None = None
    trained_tokens: int | None = None
    id: str = field(default_factory=lambda: new_id("ftjob"))


class JobRepository:
    """Jobs of one project at a time: no method works without naming it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, project_id: str, new: NewJob) -> Job:
        """Create a job that waits for validation or for a worker."""
        if new.status not in INITIAL:
            msg = f"a job cannot begin as {new.status}"
            raise ValueError(msg)
        job = Job(
            id=new.id,
            project_id=project_id,
            status=new.status,
            model=new.model,
            suffix=new.suffix,
            training_file=new.training_file,
            validation_file=new.validation_file,
            seed=new.seed,
            spec=new.spec,
            job_metadata=new.metadata,
            priority=new.priority,
            idempotency_key=new.idempotency_key,
            request_sha256=new.request_sha256,
            estimate=new.estimate,
            trained_tokens=new.trained_tokens,
        )
        self._session.add(job)
        self._session.flush()
        return job

    def get(self, project_id: str, job_id: str, *, lock: bool = False) -> Job:
        """Find a project's job; `lock` keeps others from changing it in this transaction.

        Raises:
            NotFoundError: The project has no such job.
        """
        statement = _of(project_id).where(Job.id == job_id)
        if lock:
            statement = statement.with_for_update(key_share=True)
            statement = statement.execution_options(populate_existing=True)
        job = self._session.scalar(statement)
        if job is None:
            raise NotFoundError(f"Could not find fine tune: {job_id}", param="fine_tuning_job_id")
        return job

    def find_by_model(self, project_id: str, fine_tuned_model: str) -> Job | None:
        """Find the job whose result carries this model name, unless the model was deleted."""
        return self._session.scalar(
            _of(project_id).where(
                Job.fine_tuned_model == fine_tuned_model, Job.model_deleted_at.is_(None)
            )
        )

    def mark_model_deleted(self, project_id: str, job_id: str) -> None:
        """Hide a job's tuned model for good; the job itself stays."""
        self.get(project_id, job_id, lock=True).model_deleted_at = self._now()
        self._session.flush()

    def list_succeeded(self, project_id: str) -> list[Job]:
        """List the jobs that gave a model which still exists, newest first."""
        statement = _of(project_id).where(
            Job.status == JobStatus.SUCCEEDED, Job.model_deleted_at.is_(None)
        )
        return list(self._session.scalars(_newest_first(statement)))

    def list_page(
        self,
        project_id: str,
        *,
        after: str | None = None,
        limit: int = 20,
        metadata: Mapping[str, str] | None = None,
        without_metadata: bool = False,
    ) -> Page[Job]:
        """List a project's jobs, newest first, from the one behind `after`.

        Args:
            project_id: Whose jobs.
            after: Id of the last job of the page before.
            limit: Most jobs on the page.
            metadata: Only jobs that carry all these pairs.
            without_metadata: Only jobs that carry none.

        Raises:
            InvalidRequestError: `after` names no job of the project.
        """
        statement = _of(project_id)
        if metadata:
            statement = statement.where(Job.job_metadata.contains(dict(metadata)))
        if without_metadata:
            statement = statement.where(Job.job_metadata.is_(None))
        if after is not None:
            last = self._session.scalar(_of(project_id).where(Job.id == after))
            if last is None:
                raise InvalidRequestError(f"Could not find fine tune: {after}", param="after")
            statement = statement.where(
                tuple_(Job.created_at, Job.id) < tuple_(last.created_at, last.id)
            )
        return cut_page(self._session.scalars(_newest_first(statement).limit(limit + 1)), limit)

    def find_by_idempotency_key(self, project_id: str, key: str, request_sha256: str) -> Job | None:
        """Find the job an earlier request with this key created.

        Raises:
            InvalidRequestError: The key came with a different request before.
        """
        job = self._session.scalar(_of(project_id).where(Job.idempotency_key == key))
        if job is not None and job.request_sha256 != request_sha256:
            raise InvalidRequestError(
                "This Idempotency-Key was used with a different request.",
                code=RequestErrorCode.IDEMPOTENCY_KEY_REUSED,
                hint="Send a new key with a new request.",
            )
        return job

    def find_recent_twin(
        self, project_id: str, request_sha256: str, within: timedelta
    ) -> Job | None:
        """Find the newest job that a lost answer to an identical request may have told of.

        None that was cancelled, or whose model was deleted: its owner knows of it and wants no
        more of it. A failed one is: the request would only fail again.
        """
        statement = _of(project_id).where(
            Job.request_sha256 == request_sha256,
            Job.created_at > database_now() - within,
            Job.cancel_requested_at.is_(None),
            Job.model_deleted_at.is_(None),
        )
        return self._session.scalar(_newest_first(statement).limit(1))

    def mark_queued(self, project_id: str, job_id: str) -> Job:
        """Let a validated job wait for a worker."""
        job = self.get(project_id, job_id, lock=True)
        job.status = JobStatus.QUEUED
        self._session.flush()
        return job

    def mark_failed(self, project_id: str, job_id: str, error: Json) -> Job:
        """End a job that no worker has begun.

        Raises:
            ConflictError: A worker has begun, or the job is already finished.
        """
        job = self.get(project_id, job_id, lock=True)
        if job.status not in INITIAL:
            raise ConflictError(f"The job is {job.status} and cannot be failed from outside.")
        now = self._now()
        job.status, job.finished_at, job.error = JobStatus.FAILED, now, error
        self._session.flush()
        return job

    def request_cancel(self, project_id: str, job_id: str) -> Job:
        """Cancel a waiting or paused job now, or ask the worker of a running one to stop.

        Raises:
            NotFoundError: The project has no such job.
            ConflictError: The job is already finished.
        """
        job = self.get(project_id, job_id, lock=True)
        if job.status in TERMINAL:
            raise ConflictError(
                f"Job has already {job.status.value}."
                if job.status is not JobStatus.CANCELLED
                else "Job has already been cancelled.",
                code=RequestErrorCode.JOB_NOT_CANCELLABLE,
                param="fine_tuning_job_id",
            )
        now = self._now()
        if job.cancel_requested_at is None:
            job.cancel_requested_at = now
        if job.status in WAITING:
            job.status, job.finished_at = JobStatus.CANCELLED, now
        self._session.flush()
        return job

    def request_pause(self, project_id: str, job_id: str) -> Job:
        """Pause a queued job now, or ask the worker of a running one; a paused one stays as it is.

        Raises:
            NotFoundError: The project has no such job.
            ConflictError: The job is finished, is about to be cancelled, or is still validated.
        """
        job = self.get(project_id, job_id, lock=True)
        if job.status not in _PAUSABLE or job.cancel_requested_at is not None:
            raise ConflictError(
                "Only a job that waits or runs can be paused, and none that is being cancelled.",
                code=RequestErrorCode.JOB_NOT_PAUSABLE,
                param="fine_tuning_job_id",
            )
        if job.pause_requested_at is None:
            job.pause_requested_at = self._now()
        if job.status is JobStatus.QUEUED:
            job.status, job.not_before = JobStatus.PAUSED, None
        self._session.flush()
        return job

    def resume(self, project_id: str, job_id: str) -> Job:
        """Let a paused job wait for a worker; of a running one, withdraw the wish to pause it.

        Raises:
            NotFoundError: The project has no such job.
            ConflictError: The job is not paused, and nobody has asked for it.
        """
        job = self.get(project_id, job_id, lock=True)
        if job.status in TERMINAL or job.pause_requested_at is None:
            raise ConflictError(
                "Only a paused job can be resumed.",
                code=RequestErrorCode.JOB_NOT_PAUSED,
                param="fine_tuning_job_id",
            )
        job.pause_requested_at = None
        if job.status is JobStatus.PAUSED:
            job.status = JobStatus.QUEUED
            wake_worker(self._session)
        self._session.flush()
        return job

    def _now(self) -> datetime:
        return self._session.scalars(select(database_now())).one()


def _of(project_id: str) -> Select[Job]:
    return select(Job).where(Job.project_id == project_id)


def _newest_first(statement: Select[Job]) -> Select[Job]:
    return statement.order_by(Job.created_at.desc(), Job.id.desc())
