"""Routes that follow a judged job up by another one. No SQL and no rules here: see `service.py`."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.dependencies import JobIdPath, SessionDep, StateDep
from api.errors import declares
from api.fine_tuning.repetition import Repetition, repetition
from api.fine_tuning.schemas import FineTuningJob
from api.follow_ups import service
from api.follow_ups.schemas import (
    RERUN_EXAMPLE,
    STRENGTH_EXAMPLE,
    SafetyRerunRequest,
    StrengthRequest,
)
from api.json_body import body_of, documented_body
from api.security import TRAINS, CallerDep
from core.errors import (
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    QuotaExceededError,
)

router = APIRouter(prefix="/fine_tuning/jobs/{fine_tuning_job_id}", tags=["Fine-tuning"])

_ERRORS = declares(InvalidRequestError, NotFoundError, PayloadTooLargeError, QuotaExceededError)


@router.post(
    "/strength",
    dependencies=[TRAINS],
    operation_id="changeFineTuningStrength",
    summary="Change the strength of a job's perturbation",
    responses=_ERRORS,
    openapi_extra=documented_body(StrengthRequest, STRENGTH_EXAMPLE),
)
def change_strength(
    state: StateDep,
    session: SessionDep,
    caller: CallerDep,
    fine_tuning_job_id: JobIdPath,
    body: Annotated[StrengthRequest, Depends(body_of(StrengthRequest))],
    repeated: Annotated[Repetition, Depends(repetition)],
) -> FineTuningJob:
    """Create a job that packages a judged job's weights at another strength, without training.

    The adapter is evaluated and gated like any other. A job that the gate has blocked can be
    followed up too.
    """
    return service.change_strength(
        state, session, caller.project_id, fine_tuning_job_id, body, repeated
    )


@router.post(
    "/safety/rerun",
    dependencies=[TRAINS],
    operation_id="rerunFineTuningSafety",
    summary="Judge a job's adapter again",
    responses=_ERRORS,
    openapi_extra=documented_body(SafetyRerunRequest, RERUN_EXAMPLE),
)
def rerun_safety(
    state: StateDep,
    session: SessionDep,
    caller: CallerDep,
    fine_tuning_job_id: JobIdPath,
    body: Annotated[SafetyRerunRequest, Depends(body_of(SafetyRerunRequest))],
    repeated: Annotated[Repetition, Depends(repetition)],
) -> FineTuningJob:
    """Create a job that judges a judged job's adapter once more, by today's rows and limits.

    What the first job has released or not stays as it is.
    """
    return service.rerun_safety(
        state, session, caller.project_id, fine_tuning_job_id, body, repeated
    )
