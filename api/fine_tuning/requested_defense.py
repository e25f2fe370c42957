"""The defense that a job asks for, and what is wrong with it."""

from typing import Any, Final

from pydantic import ValidationError

from api.unknown_options import probably_meant, unknown_option
from core.errors import InvalidRequestError, RequestErrorCode
from core.job_spec import resolve_defense
from core.models.base import Json
from core.strict_json import join_path
from core.value_problems import describe_problem
from defense.alignment_catalog import ALIGNMENTS
from defense.catalog import DEFENSES, FOLLOWING
from defense.errors import InvalidConfigError
from defense.job_defense import FOLLOWED_BY

_FIXED_PROBLEMS: Final = {
    "type": f"must be one of {', '.join(DEFENSES)}.",
    FOLLOWED_BY: "must be a post-fine-tuning defense, and stand in one that acts in fine-tuning.",
    f"{FOLLOWED_BY}.type": f"must be one of {', '.join(FOLLOWING)}.",
}


def read_defense(requested: dict[str, Any] | None, place: str) -> Json:
    """Write out a defense with all of its options.

    Args:
        requested: As the client wrote it.
        place: Its path in the request.

    Raises:
        InvalidRequestError: There is no such defense or option, or a value is out of range.
    """
    try:
        return resolve_defense(requested)
    except InvalidConfigError as error:
        param = join_path(place, error.param)
        raise InvalidRequestError(
            f"{param}: {_problem(error.param, error, requested or {})}",
            param=param,
            code=RequestErrorCode.INVALID_DEFENSE_CONFIG,
            hint="`GET /v1/defenses` lists the options of each defense.",
        ) from None


def _problem(option: str, error: InvalidConfigError, requested: Json) -> str:
    """Say what is wrong with a defense without repeating what was sent."""
    if option == "type" and requested.get("type") in list(ALIGNMENTS):
        return f"is a method the operator aligns base models by; {_FIXED_PROBLEMS['type']}"
    if option in _FIXED_PROBLEMS:
        problem = _FIXED_PROBLEMS[option]
        meant = _meant_type(option, requested)
        return problem if meant is None else f"{problem.rstrip('.')}; did you mean {meant}?"
    following, _, inner = option.partition(".")
    if following == FOLLOWED_BY:
        return _problem(inner, error, requested[FOLLOWED_BY])
    known = DEFENSES[requested["type"]].config_class.model_fields
    if option in requested and option not in known:
        return unknown_option(option, known)
    cause = error.__cause__
    if isinstance(cause, InvalidConfigError):
        cause = cause.__cause__
    if not isinstance(cause, ValidationError):
        return f"{error.message}."
    # An option of several types has a problem with each of them.
    problems = [
        describe_problem(problem)
        for problem in cause.errors(include_url=False, include_input=False)
        if problem["loc"][:1] == (option,)
    ]
    first, *others = problems or [error.message]
    return f"{' or '.join([first, *(other.removeprefix('must be ') for other in others)])}."


def _meant_type(option: str, requested: Json) -> str | None:
    """Find the defense whose name was nearly written."""
    if option == "type":
        return probably_meant(requested.get("type"), DEFENSES)
    if option == f"{FOLLOWED_BY}.type":
        written = requested[FOLLOWED_BY].get("type")
        # One that is spelled right only stands in the wrong place.
        return None if written in list(DEFENSES) else probably_meant(written, FOLLOWING)
    return None
