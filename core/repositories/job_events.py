"""Reads and writes of `job_events`."""

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError, LeaseLostError, NotFoundError
from core.ids import new_id
from core.job_state import JobStatus
from core.models import EventLevel, EventType, Job, JobEvent
from core.models.base import Json
from core.repositories.pagination import Page, cut_page


class JobEventRepository:
    """The history of jobs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def append(
        self,
        job_id: str,
        *,
        message: str,
        fence: int | None = None,
        level: EventLevel = EventLevel.INFO,
        event_type: EventType = EventType.MESSAGE,
        data: Json | None = None,
    ) -> JobEvent:
        """Add a line to a job's history.

        Args:
            job_id: The job.
            message: A sentence for the job's owner.
            fence: The worker's fence; `None` from the gateway and the reconciler.
            level: How serious it is.
            event_type: What `data` holds.
            data: Facts for programs.

        Raises:
            LeaseLostError: The fence is no longer the job's.
        """
        # The lock makes the lines of one job commit in the order of their sequence numbers, and
        # keeps the fence from changing between this check and the insert.
        held = select(Job.id).where(Job.id == job_id).with_for_update(key_share=True)
        if fence is not None:
            held = held.where(Job.fence == fence, Job.status != JobStatus.QUEUED)
        if self._session.scalar(held) is None:
            if fence is None:
                raise NotFoundError(f"Could not find fine tune: {job_id}")
            raise LeaseLostError(f"Job {job_id} is no longer held with fence {fence}.")
        event = JobEvent(
            id=new_id("ftevent"),
            job_id=job_id,
            fence=fence,
            level=level,
            type=event_type,
            message=message,
            data=data,
        )
        self._session.add(event)
        self._session.flush()
        return event

    def list_page(
        self, project_id: str, job_id: str, *, after: str | None = None, limit: int = 20
    ) -> Page[JobEvent]:
        """List a job's events, newest first, from the one behind `after`.

        Raises:
            InvalidRequestError: `after` names no event of this job.
        """
        statement = _of(project_id, job_id)
        if after is not None:
            last = self.sequence_of(project_id, job_id, after)
            statement = statement.where(JobEvent.sequence < last)
        statement = statement.order_by(JobEvent.sequence.desc()).limit(limit + 1)
        return cut_page(self._session.scalars(statement), limit)

    def sequence_of(self, project_id: str, job_id: str, event_id: str) -> int:
        """Find the place of an event in its job's history.

        Raises:
            InvalidRequestError: This job has no such event.
        """
        event = self._session.scalar(_of(project_id, job_id).where(JobEvent.id == event_id))
        if event is None:
            raise InvalidRequestError(f"Could not find event: {event_id}", param="after")
        return event.sequence

    def list_behind(self, job_id: str, sequence: int, limit: int) -> list[JobEvent]:
        """List the events of a job that came after one, oldest first."""
        statement = (
            select(JobEvent)
            .where(JobEvent.job_id == job_id, JobEvent.sequence > sequence)
            .order_by(JobEvent.sequence)
            .limit(limit)
        )
        return list(self._session.scalars(statement))

    def list_for_worker(self, job_id: str) -> list[JobEvent]:
        """List all events of a job, oldest first."""
        statement = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.sequence)
        return list(self._session.scalars(statement))


def _of(project_id: str, job_id: str) -> Select[JobEvent]:
    return (
        select(JobEvent)
        .join(Job, Job.id == JobEvent.job_id)
        .where(JobEvent.job_id == job_id, Job.project_id == project_id)
    )
