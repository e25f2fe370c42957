"""Creating, reading, pausing and cancelling jobs, and handing out what came of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from fastapi import Request
from sqlalchemy.orm import Session

from api.event_stream import EventStreamResponse
from api.files import service as files
from api.files.download import Download
from api.fine_tuning.creation import JobCreator
from api.fine_tuning.live_events import LiveEvents, known_sequence
from api.fine_tuning.outlook import Outlook
from api.fine_tuning.presenter import show_event, show_job
from api.fine_tuning.repetition import Repetition
from api.fine_tuning.schemas import FineTuningJob, FineTuningJobCreate, FineTuningJobEvent
from api.pagination import ListPage, checked_cursor, list_page
from api.security import Caller
from api.state import GatewayState
from core.errors import InvalidRequestError, NotFoundError, RequestErrorCode
from core.job_state import TERMINAL, JobStatus, Verdict
from core.models import FileKind, Job
from core.repositories.files import FileRepository
from core.repositories.job_events import JobEventRepository
from core.repositories.jobs import JobRepository
from core.settings import Settings

_METADATA: Final = "metadata"
_MAX_FILTERS: Final = 16
_MAX_KEY: Final = 64
_MAX_VALUE: Final = 512
# Where a job stands, as the middle of a sentence.
_STANDING: Final[Mapping[JobStatus, str]] = {
    JobStatus.VALIDATING_FILES: "is still having its files checked",
    JobStatus.QUEUED: "is still queued",
    JobStatus.RUNNING: "is still running",
    JobStatus.PAUSED: "is paused",
    JobStatus.SUCCEEDED: "has succeeded",
    JobStatus.FAILED: "has failed",
    JobStatus.CANCELLED: "was cancelled",
}


def metadata_filter(request: Request) -> Mapping[str, str] | None:
    """Read `metadata[key]=value` pairs; None stands for `metadata=null`, jobs without any.

    Raises:
        InvalidRequestError: Too many pairs, or what no job's metadata can hold.
    """
    wanted: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name == _METADATA and value == "null":
            return None
        if not name.startswith(f"{_METADATA}["):
            continue
        key = name[len(_METADATA) + 1 : -1]
        is_possible = (
            name.endswith("]")
            and 0 < len(key) <= _MAX_KEY
            and len(value) <= _MAX_VALUE
            and "\0" not in name + value
        )
        if not is_possible or len(wanted) >= _MAX_FILTERS:
            raise InvalidRequestError(
                "The metadata filter is not of the form metadata[key]=value.",
                param=_METADATA,
                code=RequestErrorCode.INVALID_VALUE,
            )
        wanted[key] = value
    return wanted


def show(session: Session, settings: Settings, job: Job) -> FineTuningJob:
    """Show a job with its place in the queue."""
    return show_job(job, Outlook.of(session, settings, [job]))


def create(
    state: GatewayState, project_id: str, request: FineTuningJobCreate, repeated: Repetition
) -> FineTuningJob:
    """Create a job, or show the one that the same request created before.

    The tokens of its files are counted between two transactions, because that takes time.

    Raises:
        InvalidRequestError: A value is wrong; `param` is its path.
        NotFoundError: There is no such file in this project.
        QuotaExceededError: As many of the project's jobs wait as may.
    """
    with state.database.session() as session:
        creator = JobCreator(session, project_id, state.registry, state.settings)
        earlier = creator.earlier(request, repeated)
        if earlier is not None:
            return show(session, state.settings, earlier)
        files = creator.plan(request).files
    error = files.error(state.token_checks)
    with state.database.session() as session:
        creator = JobCreator(session, project_id, state.registry, state.settings)
        return show(session, state.settings, creator.create(request, repeated, error))


def retrieve(session: Session, settings: Settings, project_id: str, job_id: str) -> FineTuningJob:
    """Show one job."""
    return show(session, settings, find_job(session, project_id, job_id))


def list_jobs(
    session: Session,
    settings: Settings,
    project_id: str,
    *,
    after: str | None,
    limit: int,
    metadata: Mapping[str, str] | None,
) -> ListPage[FineTuningJob]:
    """Show a page of jobs, newest first."""
    with checked_cursor():
        page = JobRepository(session).list_page(
            project_id,
            after=after,
            limit=limit,
            metadata=metadata or None,
            without_metadata=metadata is None,
        )
    outlook = Outlook.of(session, settings, page.items)
    return list_page(page, lambda job: show_job(job, outlook))


def cancel(session: Session, settings: Settings, project_id: str, job_id: str) -> FineTuningJob:
    """Cancel a waiting job, or ask the worker of a running one to stop.

    Raises:
        ConflictError: The job is finished.
    """
    before = find_job(session, project_id, job_id)
    had_asked = before.cancel_requested_at is not None
    job = JobRepository(session).request_cancel(project_id, job_id)
    if not had_asked:
        is_over = job.status is JobStatus.CANCELLED
        message = "Job cancelled." if is_over else "Cancellation requested."
        JobEventRepository(session).append(job_id, message=message)
    return show(session, settings, job)


def pause(session: Session, settings: Settings, caller: Caller, job_id: str) -> FineTuningJob:
    """Pause a waiting job, or ask the worker of a running one to save its state and stop.

    Raises:
        ConflictError: The job is finished or is being cancelled.
    """
    had_asked = find_job(session, caller.project_id, job_id).pause_requested_at is not None
    job = JobRepository(session).request_pause(caller.project_id, job_id)
    if not had_asked:
        is_paused = job.status is JobStatus.PAUSED
        _note(session, job, "Job paused" if is_paused else "Pause requested", caller)
    return show(session, settings, job)


def resume(session: Session, settings: Settings, caller: Caller, job_id: str) -> FineTuningJob:
    """Let a paused job wait for a worker, or withdraw the wish to pause a running one.

    Raises:
        ConflictError: The job is not paused, and nobody has asked for it.
    """
    find_job(session, caller.project_id, job_id)
    job = JobRepository(session).resume(caller.project_id, job_id)
    is_waiting = job.status is JobStatus.QUEUED
    _note(session, job, "Job resumed" if is_waiting else "Pause withdrawn", caller)
    return show(session, settings, job)


def list_events(
    session: Session, project_id: str, job_id: str, *, after: str | None, limit: int
) -> ListPage[FineTuningJobEvent]:
    """Show a page of a job's events, newest first."""
    find_job(session, project_id, job_id)
    events = JobEventRepository(session)
    with checked_cursor():
        page = events.list_page(project_id, job_id, after=after, limit=limit)
    return list_page(page, show_event)


def follow_events(
    state: GatewayState, session: Session, caller: Caller, job_id: str, *, behind: str | None
) -> EventStreamResponse:
    """Stream a job's events, oldest first, from the one behind an event that is known.

    Raises:
        InvalidRequestError: The job has no such event.
        NotFoundError: There is no such job.
    """
    project_id = caller.project_id
    find_job(session, project_id, job_id)
    live = LiveEvents(
        database=state.database,
        project_id=project_id,
        key_public_id=caller.key_public_id,
        job_id=job_id,
        sequence=known_sequence(session, project_id, job_id, behind),
        max_seconds=state.settings.event_stream_duration.total_seconds(),
    )
    return EventStreamResponse(live.frames(), state.streams, project_id)


def find_adapter(session: Session, project_id: str, job_id: str) -> Download:
    """Find the archive of a job that succeeded.

    Raises:
        InvalidRequestError: The job is not finished, or its adapter is blocked.
        NotFoundError: The job ended without an adapter.
    """
    job = find_job(session, project_id, job_id)
    if job.status not in TERMINAL:
        raise InvalidRequestError(
            f"The job {_STANDING[job.status]}; its adapter is not ready.",
            code=RequestErrorCode.ADAPTER_NOT_READY,
            hint="Wait until it has succeeded.",
        )
    if (job.safety or {}).get("verdict") == Verdict.BLOCKED:
        raise InvalidRequestError(
            "The safety gate has blocked this adapter.",
            code=RequestErrorCode.MODEL_POLICY_VIOLATION,
            hint="The job's `safety` and its safety report say why.",
        )
    archive = _result(session, job, FileKind.ADAPTER_ARCHIVE)
    if job.status is not JobStatus.SUCCEEDED:
        raise NotFoundError(
            f"The job {_STANDING[job.status]} and has no adapter.",
            code=RequestErrorCode.NO_ADAPTER,
        )
    if archive is None:
        raise NotFoundError(
            "The job has succeeded, but its adapter was deleted.", code=RequestErrorCode.NO_ADAPTER
        )
    return archive


def find_safety_report(session: Session, project_id: str, job_id: str) -> Download:
    """Find the safety report of a job, released or blocked.

    Raises:
        NotFoundError: The job has none, or not yet.
    """
    job = find_job(session, project_id, job_id)
    report = _result(session, job, FileKind.REPORT)
    if report is None:
        raise NotFoundError(
            f"The job {_STANDING[job.status]} and has no safety report.",
            code=RequestErrorCode.NO_REPORT,
        )
    return replace(report, media_type="application/json")


def find_answers(session: Session, project_id: str, job_id: str) -> Download:
    """Find what the models of a job answered when they were judged.

    Raises:
        NotFoundError: The job has none, or not yet, or they were deleted.
    """
    job = find_job(session, project_id, job_id)
    answers = FileRepository(session).list_results(project_id, job.id, FileKind.ANSWERS)
    if not answers:
        raise NotFoundError(
            f"The job {_STANDING[job.status]} and has no judged answers.",
            code=RequestErrorCode.NO_REPORT,
        )
    return replace(files.download_of(session, answers[0]), media_type="application/jsonl")


def _note(session: Session, job: Job, what: str, caller: Caller) -> None:
    JobEventRepository(session).append(
        job.id, message=f"{what} with API key {caller.key_id}.", data={"api_key_id": caller.key_id}
    )


def _result(session: Session, job: Job, kind: FileKind) -> Download | None:
    repository = FileRepository(session)
    for file_id in job.result_file_ids:
        try:
            file = repository.get(job.project_id, file_id)
        except NotFoundError:  # deleted by its owner
            continue
        if file.kind is kind:
            return files.download_of(session, file)
    return None


def find_job(session: Session, project_id: str, job_id: str) -> Job:
    """Find a project's job.

    Raises:
        NotFoundError: There is none.
    """
    try:
        return JobRepository(session).get(project_id, job_id)
    except NotFoundError:
        raise NotFoundError("There is no such job.", param="fine_tuning_job_id") from None
