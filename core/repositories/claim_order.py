"""In which order waiting jobs are claimed: one rule for claims, places in the queue and wake-ups.

The higher priority comes first; among equals the project with the fewest running jobs, then age. A
project that runs as many jobs as it may is passed over, whatever its priority.
"""

from sqlalchemy import ColumnElement, Select, Subquery, func, or_, select

from core.job_state import JobStatus
from core.models import Job, Project
from core.repositories.clock import database_now
from core.spec_versions import NEWEST_VERSION


def next_job(running_limit: int | None) -> Select[str]:
    """Select the id of the job to be claimed next.

    Args:
        running_limit: For projects without a limit of their own; None is no limit.
    """
    running = _running()
    return (
        _waiting(running, running_limit)
        .order_by(Job.priority.desc(), _load(running), Job.created_at, Job.id)
        .limit(1)
    )


def claimable(running_limit: int | None) -> Subquery:
    """Select the ids of all jobs of which some could be claimed now."""
    return _waiting(_running(), running_limit).subquery()


def queue(running_limit: int | None) -> Subquery:
    """Select `id` and `place`, from 1, of every queued job.

    The place is the one in a sequence of claims without an end of any job between them; whatever
    cannot be claimed in that sequence comes after it. A job's load is what its project would run
    just before its claim: that is what makes a sort of a sequence.
    """
    running = _running()
    own_order = (_is_held_back(), Job.priority.desc(), Job.created_at, Job.id)
    before = func.row_number().over(partition_by=Job.project_id, order_by=own_order) - 1
    load = (_load(running) + before).label("load")
    limit = func.coalesce(Project.running_jobs_limit, running_limit).label("limit")
    jobs = (
        select(
            Job.id, Job.priority, Job.created_at, _is_held_back().label("held_back"), load, limit
        )
        .join(Project, Project.id == Job.project_id)
        .outerjoin(running, running.c.project_id == Job.project_id)
        .where(Job.status == JobStatus.QUEUED)
        .subquery()
    )
    is_later = or_(jobs.c.held_back, func.coalesce(jobs.c.load >= jobs.c.limit, False))
    order = (is_later, jobs.c.priority.desc(), jobs.c.load, jobs.c.created_at, jobs.c.id)
    place = func.row_number().over(order_by=order)
    return select(jobs.c.id, place.label("place")).subquery()


def _running() -> Subquery:
    """Count the running jobs of each project that has any."""
    return (
        select(Job.project_id, func.count().label("jobs"))
        .where(Job.status == JobStatus.RUNNING)
        .group_by(Job.project_id)
        .subquery()
    )


def _load(running: Subquery) -> ColumnElement[int]:
    return func.coalesce(running.c.jobs, 0)


def _is_held_back() -> ColumnElement[bool]:
    """Tell whether a job waits for a later moment, its cancellation, or a newer release."""
    is_delayed = func.coalesce(Job.not_before > database_now(), False)
    is_newer = func.coalesce(Job.spec["version"].as_integer() > NEWEST_VERSION, False)
    return or_(Job.cancel_requested_at.is_not(None), is_delayed, is_newer)


def _waiting(running: Subquery, running_limit: int | None) -> Select[str]:
    limit = func.coalesce(Project.running_jobs_limit, running_limit)
    return (
        select(Job.id)
        .join(Project, Project.id == Job.project_id)
        .outerjoin(running, running.c.project_id == Job.project_id)
        .where(
            Job.status == JobStatus.QUEUED,
            ~_is_held_back(),
            or_(limit.is_(None), _load(running) < limit),
        )
    )
