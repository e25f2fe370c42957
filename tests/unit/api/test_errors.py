import json
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from api.errors import crash_response, declares, error_response, from_problems
from core.errors import (
    AuthenticationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    QuotaExceededError,
    RateLimitedError,
    StorageError,
    TunewardError,
    UnavailableError,
)


class Inner(BaseModel):
    counts: list[int]


class Outer(BaseModel):
    inner: Inner
    labels: dict[str, str] = {}


def problems_of(value: object) -> list[dict[str, Any]]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)
    return [dict(problem) for problem in caught.value.errors()]


def body(error: TunewardError) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(bytes(error_response(error).body))
    return content


def test_an_error_fills_the_four_keys_of_the_envelope() -> None:
    error = InvalidRequestError("It is wrong.", param="a.b", code="wrong", hint="Mend it.")

    assert error_response(error).status_code == 400
    assert body(error) == {
        "error": {
            "message": "It is wrong. Mend it.",
            "type": "invalid_request_error",
            "param": "a.b",
            "code": "wrong",
        }
    }


def test_a_fault_of_the_server_keeps_its_reasons_to_itself() -> None:
    error = body(StorageError("secret path /srv/x", hint="secret"))["error"]

    assert "secret" not in json.dumps(error)
    assert error["code"] == "storage_error"
    assert crash_response().status_code == 500


def test_headers_tell_clients_what_to_do() -> None:
    assert error_response(AuthenticationError("No key.")).headers["www-authenticate"] == "Bearer"
    assert error_response(UnavailableError("Away.")).headers["retry-after"] == "2"
    assert "retry-after" not in error_response(NotFoundError("None.")).headers
    busy = error_response(RateLimitedError("Too many.", retry_after_seconds=7)).headers
    assert (busy["retry-after"], "x-should-retry" in busy) == ("7", False)
    assert error_response(QuotaExceededError("Full.")).headers["x-should-retry"] == "false"


def test_the_first_problem_is_told_at_its_place_without_its_input() -> None:
    error = from_problems(problems_of({"inner": {"counts": [1, "canary"]}, "labels": {"a": 1}}))

    assert error.param == "inner.counts[1]"
    assert error.message.startswith("inner.counts[1]: ")
    assert error.message.endswith(" (1 more problem)")
    assert "canary" not in error.message


def test_a_problem_of_the_whole_body_has_no_param() -> None:
    error = from_problems(problems_of([1]))

    assert error.param is None
    assert error.message.startswith("The body: ")


def test_routes_declare_a_status_once_and_what_any_key_can_meet_always() -> None:
    declared = declares(InvalidRequestError, ConflictError, NotFoundError)

    assert list(declared) == [400, 401, 403, 404, 429]
    example = declared[404]["content"]["application/json"]["example"]
    assert set(example["error"]) == {"message", "type", "param", "code"}
