"""Routes under `/v1/fine_tuning/jobs`. No SQL and no rules here: see the services."""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from fastapi.responses import Response

from api.dependencies import (
    JobIdPath,
    SessionDep,
    SettingsDep,
    StateDep,
    StorageDep,
)
from api.errors import declares
from api.files import download
from api.fine_tuning import attribution, estimates, service
from api.fine_tuning.attribution import AttributionObject
from api.fine_tuning.estimate_schemas import EstimateObject
from api.fine_tuning.live_events import Following
from api.fine_tuning.repetition import Repetition, repetition
from api.fine_tuning.schemas import (
    CREATE_EXAMPLE,
    FineTuningJob,
    FineTuningJobCreate,
    FineTuningJobEvent,
)
from api.json_body import body_of, documented_body
from api.pagination import AfterQuery, LimitQuery, ListPage
from api.security import READS, TRAINS, CallerDep
from core.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    QuotaExceededError,
    TooManyStreamsError,
)

router = APIRouter(prefix="/fine_tuning/jobs", tags=["Fine-tuning"])

_ARCHIVE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/x-tar": {}}, "description": "The archive."},
    206: {"content": {"application/x-tar": {}}, "description": "The bytes of one range."},
}
_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "A page, or a stream of events."}
}
_REPORT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {}}, "description": "The report."}
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/jsonl": {}}, "description": "One answer a line."}
}


@router.post(
    "",
    dependencies=[TRAINS],
    operation_id="createFineTuningJob",
    summary="Create a job",
    responses=declares(
        InvalidRequestError, NotFoundError, PayloadTooLargeError, QuotaExceededError
    ),
    openapi_extra=documented_body(FineTuningJobCreate, CREATE_EXAMPLE),
)
def create_fine_tuning_job(
    state: StateDep,
    caller: CallerDep,
    body: Annotated[FineTuningJobCreate, Depends(body_of(FineTuningJobCreate))],
    repeated: Annotated[Repetition, Depends(repetition)],
) -> FineTuningJob:
    """Start a guarded fine-tuning job.

    A training file with mistakes gives a job that has failed and names the line to mend.
    """
    return service.create(state, caller.project_id, body, repeated)


@router.post(
    "/estimate",
    dependencies=[TRAINS],
    operation_id="estimateFineTuningJob",
    summary="Estimate a job",
    responses=declares(InvalidRequestError, NotFoundError, PayloadTooLargeError),
    openapi_extra=documented_body(FineTuningJobCreate, CREATE_EXAMPLE),
)
def estimate_fine_tuning_job(
    state: StateDep,
    caller: CallerDep,
    body: Annotated[FineTuningJobCreate, Depends(body_of(FineTuningJobCreate))],
) -> EstimateObject:
    """Tell what a job with this body would take: tokens, steps, memory, minutes, cost, as ranges.

    Nothing is created. A body that creation refuses is refused alike; a file that would fail its
    job at once is refused with that job's error.
    """
    return estimates.estimate(state, caller.project_id, body)


@router.get(
    "",
    dependencies=[READS],
    operation_id="listFineTuningJobs",
    summary="List jobs",
    responses=declares(InvalidRequestError),
)
def list_fine_tuning_jobs(
    session: SessionDep,
    settings: SettingsDep,
    caller: CallerDep,
    metadata: Annotated[Mapping[str, str] | None, Depends(service.metadata_filter)],
    after: AfterQuery = None,
    limit: LimitQuery = 20,
) -> ListPage[FineTuningJob]:
    """List the project's jobs, newest first; `metadata[key]=value` keeps those that carry it."""
    return service.list_jobs(
        session, settings, caller.project_id, after=after, limit=limit, metadata=metadata
    )


@router.get(
    "/{fine_tuning_job_id}",
    dependencies=[READS],
    operation_id="retrieveFineTuningJob",
    summary="Retrieve a job",
    responses=declares(NotFoundError),
)
def retrieve_fine_tuning_job(
    session: SessionDep, settings: SettingsDep, caller: CallerDep, fine_tuning_job_id: JobIdPath
) -> FineTuningJob:
    """Show one job: its status, progress, place in the queue, results and safety verdict."""
    return service.retrieve(session, settings, caller.project_id, fine_tuning_job_id)


@router.post(
    "/{fine_tuning_job_id}/cancel",
    dependencies=[TRAINS],
    operation_id="cancelFineTuningJob",
    summary="Cancel a job",
    responses=declares(ConflictError, NotFoundError),
)
def cancel_fine_tuning_job(
    session: SessionDep, settings: SettingsDep, caller: CallerDep, fine_tuning_job_id: JobIdPath
) -> FineTuningJob:
    """Cancel a waiting job at once; a running one stops within seconds and then says so."""
    return service.cancel(session, settings, caller.project_id, fine_tuning_job_id)


@router.post(
    "/{fine_tuning_job_id}/pause",
    dependencies=[TRAINS],
    operation_id="pauseFineTuningJob",
    summary="Pause a job",
    responses=declares(ConflictError, NotFoundError),
)
def pause_fine_tuning_job(
    session: SessionDep, settings: SettingsDep, caller: CallerDep, fine_tuning_job_id: JobIdPath
) -> FineTuningJob:
    """Pause a waiting job at once; a running one stops after its optimizer step and then says so.

    Its worker is free for other jobs meanwhile. Pausing a paused job changes nothing.
    """
    return service.pause(session, settings, caller, fine_tuning_job_id)


@router.post(
    "/{fine_tuning_job_id}/resume",
    dependencies=[TRAINS],
    operation_id="resumeFineTuningJob",
    summary="Resume a job",
    responses=declares(ConflictError, NotFoundError),
)
def resume_fine_tuning_job(
    session: SessionDep, settings: SettingsDep, caller: CallerDep, fine_tuning_job_id: JobIdPath
) -> FineTuningJob:
    """Put a paused job back into the queue; it goes on at the step at which it stopped.

    A job that was asked to pause and has not yet done so goes on without a break.
    """
    return service.resume(session, settings, caller, fine_tuning_job_id)


@router.get(
    "/{fine_tuning_job_id}/events",
    dependencies=[READS],
    operation_id="listFineTuningEvents",
    summary="List a job's events",
    response_model=ListPage[FineTuningJobEvent],
    responses=declares(InvalidRequestError, NotFoundError, TooManyStreamsError) | _EVENTS,
)
def list_fine_tuning_events(
    state: StateDep,
    session: SessionDep,
    caller: CallerDep,
    fine_tuning_job_id: JobIdPath,
    following: Annotated[Following, Depends()],
    after: AfterQuery = None,
    limit: LimitQuery = 20,
) -> ListPage[FineTuningJobEvent] | Response:
    """List what happened to a job, newest first: messages, metrics per step, safety checks.

    With `stream=true` the answer is a stream of server-sent events, from the one behind `after` or
    `Last-Event-ID` on; it ends with `data: [DONE]` once the job is over and all of them are sent.
    """
    if following.stream:
        behind = following.last_event_id or after
        return service.follow_events(state, session, caller, fine_tuning_job_id, behind=behind)
    return service.list_events(
        session, caller.project_id, fine_tuning_job_id, after=after, limit=limit
    )


@router.get(
    "/{fine_tuning_job_id}/adapter",
    dependencies=[READS],
    operation_id="downloadFineTuningAdapter",
    summary="Download a job's adapter",
    response_class=Response,
    responses=declares(InvalidRequestError, NotFoundError) | _ARCHIVE,
)
def download_adapter(
    session: SessionDep,
    storage: StorageDep,
    caller: CallerDep,
    fine_tuning_job_id: JobIdPath,
    range_header: Annotated[str | None, Header(alias="range")] = None,
    if_range: Annotated[str | None, Header()] = None,
) -> Response:
    """Send the released archive (PEFT folder, report, model card), as `result_files[1]` does."""
    found = service.find_adapter(session, caller.project_id, fine_tuning_job_id)
    return download.send(storage, found, range_header=range_header, if_range=if_range)


@router.get(
    "/{fine_tuning_job_id}/safety_report",
    dependencies=[READS],
    operation_id="retrieveFineTuningSafetyReport",
    summary="Retrieve a job's safety report",
    response_class=Response,
    responses=declares(NotFoundError) | _REPORT,
)
def retrieve_safety_report(
    session: SessionDep, storage: StorageDep, caller: CallerDep, fine_tuning_job_id: JobIdPath
) -> Response:
    """Send the report: how base, tuned and guarded model were judged, and by which policy."""
    found = service.find_safety_report(session, caller.project_id, fine_tuning_job_id)
    return download.send(storage, found)


@router.get(
    "/{fine_tuning_job_id}/attribution",
    dependencies=[READS],
    operation_id="retrieveFineTuningAttribution",
    summary="Rank a job's rows by harm",
    responses=declares(NotFoundError),
)
def retrieve_attribution(
    session: SessionDep, storage: StorageDep, caller: CallerDep, fine_tuning_job_id: JobIdPath
) -> AttributionObject:
    """Name the training rows that pulled most towards harm: lines and scores, and no text."""
    return attribution.find_attribution(session, storage, caller.project_id, fine_tuning_job_id)


@router.get(
    "/{fine_tuning_job_id}/safety_report/answers",
    dependencies=[READS],
    operation_id="downloadFineTuningAnswers",
    summary="Download the answers that a job's models were judged by",
    response_class=Response,
    responses=declares(NotFoundError) | _ANSWERS,
)
def download_answers(
    session: SessionDep, storage: StorageDep, caller: CallerDep, fine_tuning_job_id: JobIdPath
) -> Response:
    """Send JSON Lines: every evaluation prompt, each model's answer, and what either judge says."""
    found = service.find_answers(session, caller.project_id, fine_tuning_job_id)
    return download.send(storage, found)
