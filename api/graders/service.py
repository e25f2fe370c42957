"""Checking a grader, and trying it on one sample."""

import time
from collections.abc import Mapping
from typing import Final

from pydantic import JsonValue, ValidationError
from starlette.concurrency import run_in_threadpool

from api.errors import from_problems
from api.graders.schemas import (
    Grader,
    GraderErrorsObject,
    GraderMetadataObject,
    GraderRun,
    GraderRunObject,
    StringCheckGrader,
    TextSimilarityGrader,
    ValidatedGraderObject,
)
from api.graders.similarity import cosine, similarity
from api.graders.templates import (
    MAX_RENDERED,
    MissingValueError,
    RenderedTooLongError,
    SampleNotJsonError,
    WrongNameError,
    names_in,
    render,
)
from api.inference import InferenceClient
from core.errors import InvalidRequestError, RequestErrorCode

_GRADERS: Final[Mapping[str, type[Grader]]] = {
    "string_check": StringCheckGrader,
    "text_similarity": TextSimilarityGrader,
}


def validate(requested: Mapping[str, JsonValue]) -> ValidatedGraderObject:
    """Check a grader without running it.

    Raises:
        InvalidRequestError: It is wrong, or of a kind that is not offered.
    """
    return ValidatedGraderObject(grader=_read(requested).model_dump(mode="json"))


async def run(inference: InferenceClient, request: GraderRun) -> GraderRunObject:
    """Grade one sample; a template that reads what is not there gives no reward and says so.

    Raises:
        InvalidRequestError: The grader is wrong, or a text grows too long.
        InferenceBusyError: Too many texts wait already.
        InferenceUnavailableError: Vectors are to be compared, and nobody makes them.
        ModelUnusableError: The encoder cannot be trusted.
    """
    grader = _read(request.grader)
    started = time.perf_counter()
    errors, reward = GraderErrorsObject(), 0.0
    try:
        text, reference = await run_in_threadpool(_texts, grader, request)
        reward = await _reward(inference, grader, text, reference)
    except MissingValueError:
        errors.invalid_variable_error = True
    except SampleNotJsonError:
        errors.sample_parse_error = True
    except RenderedTooLongError:
        raise InvalidRequestError(
            f"A filled-in text has more than {MAX_RENDERED} characters.",
            param="grader",
            code=RequestErrorCode.INVALID_VALUE,
        ) from None
    return GraderRunObject(
        reward=reward,
        metadata=GraderMetadataObject(
            name=grader.name,
            type=grader.type,
            errors=errors,
            execution_time=time.perf_counter() - started,
        ),
    )


def _texts(grader: Grader, request: GraderRun) -> tuple[str, str]:
    item = request.item or {}
    return (
        render(grader.input, item, request.model_sample),
        render(grader.reference, item, request.model_sample),
    )


async def _reward(inference: InferenceClient, grader: Grader, text: str, reference: str) -> float:
    if isinstance(grader, StringCheckGrader):
        return _check(grader, text, reference)
    metric = grader.evaluation_metric
    if metric == "cosine":
        return cosine(*await inference.embed((text, reference)))
    return await run_in_threadpool(similarity, metric, text, reference)


def _check(grader: StringCheckGrader, text: str, reference: str) -> float:
    match grader.operation:
        case "eq":
            return float(text == reference)
        case "ne":
            return float(text != reference)
        case "like":
            return float(reference in text)
        case "ilike":
            return float(reference.casefold() in text.casefold())


def _read(requested: Mapping[str, JsonValue]) -> Grader:
    kind = requested.get("type")
    if not isinstance(kind, str) or kind not in _GRADERS:
        raise InvalidRequestError(
            f"grader.type: must be one of {', '.join(_GRADERS)}.",
            param="grader.type",
            code=RequestErrorCode.UNSUPPORTED_GRADER,
        )
    try:
        grader = _GRADERS[kind].model_validate(dict(requested))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise from_problems(
            [{**problem, "loc": ("grader", *problem["loc"])} for problem in problems]
        ) from None
    for field in ("input", "reference"):
        _check_names(field, getattr(grader, field))
    return grader


def _check_names(field: str, template: str) -> None:
    try:
        names_in(template)
    except WrongNameError:
        raise InvalidRequestError(
            f"grader.{field}: a place in braces must be item.<name>, sample.output_text or "
            "sample.output_json.",
            param=f"grader.{field}",
            code=RequestErrorCode.INVALID_VALUE,
        ) from None
