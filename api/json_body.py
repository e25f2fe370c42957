"""JSON request bodies, read strictly and only after the caller is known."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from api.errors import from_problems
from api.security import CallerDep
from core.errors import InvalidRequestError, RequestErrorCode
from core.strict_json import StrictJsonError, parse_strict

ModelT = TypeVar("ModelT", bound=BaseModel)
_LARGEST_EXACT: Final = 2**53
_MOST_KEYS: Final = 1000


def body_of(model: type[ModelT]) -> Callable[..., Awaitable[ModelT]]:
    """Make a dependency that reads the body as this model; unlike FastAPI's, no key reads twice.

    No body at all is an empty object where nothing in it is required.
    """
    empty = b"" if _is_required(model) else b"{}"

    async def read_body(request: Request, _: CallerDep) -> ModelT:
        try:
            body = parse_strict(await request.body() or empty)
            _refuse_wide_objects(body)
            return model.model_validate(_whole_numbers(body))
        except StrictJsonError as error:
            message = error.message[0].upper() + error.message[1:]
            raise InvalidRequestError(
                f"The body is refused: {message}.",
                param=error.path or None,
                code=error.code,
                hint=error.hint,
            ) from None
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            raise from_problems([dict(problem) for problem in problems], model) from None

    return read_body


def _is_required(model: type[BaseModel]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())


def _refuse_wide_objects(value: object) -> None:
    """Refuse what no request needs: each unknown key would be a problem to be described.

    Raises:
        InvalidRequestError: An object has more than `_MOST_KEYS` keys.
    """
    if isinstance(value, dict) and len(value) > _MOST_KEYS:
        raise InvalidRequestError(
            f"The body has an object with more than {_MOST_KEYS} keys.",
            code=RequestErrorCode.INVALID_VALUE,
        )
    for item in value.values() if isinstance(value, dict) else ():
        _refuse_wide_objects(item)
    for item in value if isinstance(value, list) else ():
        _refuse_wide_objects(item)


def _whole_numbers(value: object) -> object:
    """Read 3.0 as 3: JSON knows one kind of number, and some programs write integers so."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT:
        return int(value)
    if isinstance(value, dict):
        return {name: _whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_whole_numbers(item) for item in value]
    return value


def documented_body(model: type[BaseModel], example: object) -> dict[str, object]:
    """Describe the body for the API reference, which can't see into the dependency.

    `api/openapi.py` adds the schema itself.
    """
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        "requestBody": {
            "required": _is_required(model),
            "content": {"application/json": {"schema": reference, "example": example}},
        }
    }
