"""Routes under `/v1/fine_tuning/alpha/graders`. No rules here: see `service.py`."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends

from api.dependencies import InferenceDep
from api.errors import declares
from api.graders import service
from api.graders.schemas import GraderRun, GraderRunObject, GraderValidate, ValidatedGraderObject
from api.json_body import body_of, documented_body
from api.security import TRAINS
from core.errors import (
    InferenceBusyError,
    InferenceUnavailableError,
    InvalidRequestError,
    ModelUnusableError,
    PayloadTooLargeError,
)

router = APIRouter(prefix="/fine_tuning/alpha/graders", tags=["Graders"])

_GRADER: Final = {
    "type": "text_similarity",
    "name": "close to the answer",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
    "evaluation_metric": "rouge_l",
}
_RUN_EXAMPLE: Final = {
    "grader": _GRADER,
    "model_sample": "The cat sat.",
    "item": {"answer": "The cat sat down."},
}


@router.post(
    "/validate",
    dependencies=[TRAINS],
    operation_id="validateGrader",
    summary="Check a grader",
    responses=declares(InvalidRequestError, PayloadTooLargeError),
    openapi_extra=documented_body(GraderValidate, {"grader": _GRADER}),
)
def validate_grader(
    body: Annotated[GraderValidate, Depends(body_of(GraderValidate))],
) -> ValidatedGraderObject:
    """Check a `string_check` or `text_similarity` grader, its templates included."""
    return service.validate(body.grader)


@router.post(
    "/run",
    dependencies=[TRAINS],
    operation_id="runGrader",
    summary="Try a grader",
    responses=declares(
        InvalidRequestError,
        PayloadTooLargeError,
        InferenceBusyError,
        ModelUnusableError,
        InferenceUnavailableError,
    ),
    openapi_extra=documented_body(GraderRun, _RUN_EXAMPLE),
)
async def run_grader(
    inference: InferenceDep,
    body: Annotated[GraderRun, Depends(body_of(GraderRun))],
) -> GraderRunObject:
    """Grade one sample of a model; nothing is stored."""
    return await service.run(inference, body)
