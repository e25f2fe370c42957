"""Reads over waiting and running jobs that span what one client sees, and the create lock."""

from collections.abc import Collection

from sqlalchemy import ColumnElement, Float, and_, cast, extract, func, or_, select
from sqlalchemy.orm import Session

from core.estimation.waiting import RunningJob, WaitingJob
from core.job_state import TERMINAL, WAITING, JobStatus
from core.models import Job, Project
from core.repositories import claim_order
from core.repositories.clock import database_now


class JobQueueRepository:
    """The queue as a whole; answers hold counts and places, never another project's ids."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def positions(self, job_ids: Collection[str], *, running_limit: int | None) -> dict[str, int]:
        """Map the queued ones among these jobs to their places in the order of claims, from 1.

        Args:
            job_ids: Which jobs.
            running_limit: Running jobs of a project without a limit of its own; None is no limit.
        """
        if not job_ids:
            return {}
        queue = claim_order.queue(running_limit)
        waiting = select(queue.c.id, queue.c.place).where(queue.c.id.in_(job_ids))
        return {row.id: row.place for row in self._session.execute(waiting)}

    def outlook(self, running_limit: int | None) -> tuple[list[RunningJob], list[WaitingJob]]:
        """List the jobs that hold workers, and all that wait, in the order of their claims.

        A job of which no estimate is known counts as taking no time.

        Args:
            running_limit: Running jobs of a project without a limit of its own; None is no limit.
        """
        finish = func.coalesce(
            extract("epoch", Job.estimated_finish_at - database_now()),
            _expected_seconds() - extract("epoch", database_now() - Job.started_at),
            0,
        )
        running = select(Job.project_id, func.greatest(finish, 0).label("left")).where(
            Job.status == JobStatus.RUNNING, Job.lease_expires_at > database_now()
        )
        queue = claim_order.queue(running_limit)
        limit = func.coalesce(Project.running_jobs_limit, running_limit).label("limit")
        seconds = func.coalesce(_expected_seconds(), 0).label("seconds")
        waiting = (
            select(Job.id, Job.project_id, seconds, limit)
            .join(queue, queue.c.id == Job.id)
            .join(Project, Project.id == Job.project_id)
            .order_by(queue.c.place)
        )
        return (
            [RunningJob(row.project_id, float(row.left)) for row in self._session.execute(running)],
            [
                WaitingJob(row.id, row.project_id, float(row.seconds), row.limit)
                for row in self._session.execute(waiting)
            ],
        )

    def count_waiting(self, project_id: str) -> int:
        """Count a project's jobs that no worker has, paused ones included."""
        statement = select(func.count()).where(
            Job.project_id == project_id, Job.status.in_(WAITING)
        )
        return self._session.scalar(statement) or 0

    def needs_file(self, project_id: str, file_id: str) -> bool:
        """Tell whether a job that is not finished reads this file or continues its adapter.

        Of the projects that the adapter was shared with, only running jobs count: what waits there
        cannot keep an owner from deleting.
        """
        continues = Job.spec["parent"]["file_id"].astext == file_id
        own = and_(
            Job.project_id == project_id,
            Job.status.not_in(TERMINAL),
            or_(
                Job.training_file == file_id,
                Job.validation_file == file_id,
                Job.spec["initial_adapter"]["file_id"].astext == file_id,
                Job.spec["follow_up"]["prompts"]["file_id"].astext == file_id,
                continues,
            ),
        )
        others = and_(Job.status == JobStatus.RUNNING, continues)
        statement = select(Job.id).where(or_(own, others))
        return self._session.scalar(statement.limit(1)) is not None

    def lock_creation(self, project_id: str, request: str) -> None:
        """Let one of several identical requests through at a time, until its transaction ends."""
        number = func.hashtextextended(f"{project_id}/{request}", 0)
        self._session.execute(select(func.pg_advisory_xact_lock(number)))


def _expected_seconds() -> ColumnElement[float]:
    """Select what a job was estimated to take when it was created."""
    return cast(Job.estimate["seconds"]["expected"].astext, Float)
