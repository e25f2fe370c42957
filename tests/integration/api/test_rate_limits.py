"""How many requests a key may send, and what each answer says about it."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from core.database import Database
from core.errors import UnavailableError
from core.models import Scope
from tests.integration.api.builders import Answer, Gateway, error_of

Limiter = Callable[[int], None]


@pytest.fixture
def allow(gateway: Gateway) -> Limiter:
    def set_limit(per_minute: int) -> None:
        state = gateway.app.state.gateway
        settings = gateway.settings.model_copy(update={"requests_per_minute": per_minute})
        gateway.app.state.gateway = replace(state, settings=settings)

    return set_limit


def limits(response: Answer) -> tuple[str | None, ...]:
    names = ("limit", "remaining", "reset")
    return tuple(response.headers.get(f"x-ratelimit-{name}-requests") for name in names)


def test_every_answer_to_a_key_says_what_is_left(gateway: Gateway, allow: Limiter) -> None:
    allow(60)
    reader = gateway.caller("acme", [Scope.READ])

    answers = [
        reader.get("/v1/files"),
        reader.get("/v1/files/file-none"),
        reader.post("/v1/fine_tuning/jobs", content=b"{"),
        reader.get("/v1/files", params={"limit": 0}),
    ]

    assert [answer.status_code for answer in answers] == [200, 404, 403, 400]
    assert [limits(answer)[:2] for answer in answers] == [
        ("60", "59"),
        ("60", "58"),
        ("60", "57"),
        ("60", "56"),
    ]
    assert all(re.fullmatch(r"\d+ms|[\d.]+s", str(limits(answer)[2])) for answer in answers)


def test_too_many_requests_are_refused_until_the_bucket_fills_again(
    gateway: Gateway, allow: Limiter, acme: TestClient
) -> None:
    allow(2)
    served = [acme.get("/v1/models").status_code for _ in range(2)]

    refused = acme.get("/v1/models")
    with gateway.database.session() as session:
        session.execute(text("UPDATE request_buckets SET full_at = full_at - interval '30 s'"))

    error = error_of(refused)
    assert served == [200, 200]
    assert refused.status_code == 429
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert 25 < int(refused.headers["retry-after"]) <= 30
    assert limits(refused)[:2] == ("2", "0")
    assert "x-should-retry" not in refused.headers
    assert acme.get("/v1/models").status_code == 200


def test_one_key_never_uses_up_the_requests_of_another(
    gateway: Gateway, allow: Limiter, acme: TestClient
) -> None:
    allow(1)
    statuses = [acme.get("/v1/models").status_code for _ in range(2)]

    assert statuses == [200, 429]
    assert gateway.caller("acme").get("/v1/models").status_code == 200


def test_a_limit_of_zero_counts_nothing(allow: Limiter, acme: TestClient) -> None:
    allow(0)

    assert limits(acme.get("/v1/models")) == (None, None, None)


def test_without_a_key_and_on_health_routes_there_is_no_limit(anonymous: TestClient) -> None:
    assert limits(anonymous.get("/v1/models")) == (None, None, None)
    assert limits(anonymous.get("/healthz")) == (None, None, None)


class HeldBuckets(Database):
    """A database whose second transaction of a request, the one for the bucket, waits too long."""

    sessions = 0

    @contextmanager
    def session(self) -> Iterator[Session]:
        self.sessions += 1
        if self.sessions == 2:
            raise UnavailableError("The database does not answer.")
        with super().session() as session:
            yield session


def test_a_bucket_out_of_reach_stops_nobody(
    gateway: Gateway, allow: Limiter, acme: TestClient
) -> None:
    allow(1)
    acme.get("/v1/files")
    state = gateway.app.state.gateway
    assert gateway.settings.database_url is not None
    held = HeldBuckets(gateway.settings.database_url)
    gateway.app.state.gateway = replace(state, database=held)

    response = acme.get("/v1/files")

    held.dispose()
    gateway.app.state.gateway = state
    assert response.status_code == 200
    assert limits(response) == (None, None, None)
