"""What every route has in common: keys, the error envelope, the request id, the commit."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from api.fine_tuning import service as job_service
from core.database import Database
from core.errors import UnavailableError
from core.provision import create_key
from core.repositories.api_keys import ApiKeyRepository
from tests.integration.api.builders import (
    Gateway,
    create_job,
    error_of,
    in_pieces,
    job_body,
    upload_id,
)

PUBLIC = {"/healthz", "/readyz", "/metrics"}
PERMISSIONS = "/v1/fine_tuning/checkpoints/fine_tuned_model_checkpoint/permissions"
METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]


def routes(app: FastAPI) -> list[tuple[str, str]]:
    return [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, operations in app.openapi()["paths"].items()
        for method in operations
    ]


def test_the_routes_are_these_and_no_others(gateway: Gateway) -> None:
    assert sorted(routes(gateway.app)) == [
        ("DELETE", "/v1/files/file_id"),
        (
            "DELETE",
            "/v1/fine_tuning/checkpoints/fine_tuned_model_checkpoint/permissions/permission_id",
        ),
        ("DELETE", "/v1/models/model"),
        ("DELETE", "/v1/organization/projects/project_id/api_keys/key_id"),
        ("DELETE", "/v1/webhook_endpoints/webhook_endpoint_id"),
        ("GET", "/healthz"),
        ("GET", "/metrics"),
        ("GET", "/readyz"),
        ("GET", "/v1/defenses"),
        ("GET", "/v1/files"),
        ("GET", "/v1/files/file_id"),
        ("GET", "/v1/files/file_id/content"),
        ("GET", PERMISSIONS),
        ("GET", "/v1/fine_tuning/jobs"),
        ("GET", "/v1/fine_tuning/jobs/fine_tuning_job_id"),
        ("GET", "/v1/fine_tuning/jobs/fine_tuning_job_id/adapter"),
        ("GET", "/v1/fine_tuning/jobs/fine_tuning_job_id/attribution"),
        ("GET", "/v1/fine_tuning/jobs/fine_tuning_job_id/checkpoints"),
        ("GET", "/v1/fine_tuning/jobs/fine_tuning_job_id/events"),
        ("GET", "/v1/fine_tuning/jobs/fine_tuning_job_id/safety_report"),
        ("GET", "/v1/fine_tuning/jobs/fine_tuning_job_id/safety_report/answers"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/model"),
        ("GET", "/v1/organization/projects"),
        ("GET", "/v1/organization/projects/project_id"),
        ("GET", "/v1/organization/projects/project_id/api_keys"),
        ("GET", "/v1/organization/projects/project_id/api_keys/key_id"),
        ("GET", "/v1/webhook_endpoints"),
        ("GET", "/v1/webhook_endpoints/webhook_endpoint_id"),
        ("GET", "/v1/webhook_endpoints/webhook_endpoint_id/deliveries"),
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/files"),
        ("POST", "/v1/fine_tuning/alpha/graders/run"),
        ("POST", "/v1/fine_tuning/alpha/graders/validate"),
        ("POST", PERMISSIONS),
        ("POST", "/v1/fine_tuning/jobs"),
        ("POST", "/v1/fine_tuning/jobs/estimate"),
        ("POST", "/v1/fine_tuning/jobs/fine_tuning_job_id/cancel"),
        ("POST", "/v1/fine_tuning/jobs/fine_tuning_job_id/pause"),
        ("POST", "/v1/fine_tuning/jobs/fine_tuning_job_id/resume"),
        ("POST", "/v1/fine_tuning/jobs/fine_tuning_job_id/safety/rerun"),
        ("POST", "/v1/fine_tuning/jobs/fine_tuning_job_id/strength"),
        ("POST", "/v1/moderations"),
        ("POST", "/v1/organization/projects"),
        ("POST", "/v1/organization/projects/project_id"),
        ("POST", "/v1/organization/projects/project_id/api_keys"),
        ("POST", "/v1/organization/projects/project_id/api_keys/key_id/rotate"),
        ("POST", "/v1/uploads"),
        ("POST", "/v1/uploads/upload_id/cancel"),
        ("POST", "/v1/uploads/upload_id/complete"),
        ("POST", "/v1/uploads/upload_id/parts"),
        ("POST", "/v1/webhook_endpoints"),
        ("POST", "/v1/webhook_endpoints/webhook_endpoint_id"),
        ("POST", "/v1/webhook_endpoints/webhook_endpoint_id/deliveries/delivery_id/replay"),
        ("POST", "/v1/webhook_endpoints/webhook_endpoint_id/rotate_secret"),
        ("POST", "/v1/webhook_endpoints/webhook_endpoint_id/test"),
    ]


def test_every_route_needs_a_key(gateway: Gateway, anonymous: TestClient) -> None:
    for method, path in routes(gateway.app):
        if path not in PUBLIC:
            response = anonymous.request(method, path)
            assert response.status_code == 401, path
            assert error_of(response)["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "authorization",
    [
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Basic dXNlcjpwYXNz",
        "Bearer tw_0000000000000000_" + "0" * 49,
        "Bearer tw_" + "x" * 10_000,
        "Bearer tw_\u00e4\u00f6".encode("latin-1"),
    ],
)
def test_a_wrong_key_opens_nothing(gateway: Gateway, authorization: str | bytes) -> None:
    value = authorization if isinstance(authorization, bytes) else authorization.encode()

    response = TestClient(gateway.app).get("/v1/files", headers={b"authorization": value})

    assert response.status_code == 401
    assert error_of(response)["code"] == "invalid_api_key"


def test_a_key_with_another_secret_a_revoked_one_and_one_in_the_address_open_nothing(
    gateway: Gateway,
) -> None:
    with gateway.database.session() as session:
        key = create_key(session, project_name=gateway.project("acme"))
        other = create_key(session, project_name=gateway.project("acme"))
    mixed = key.text[:19] + other.text[19:]
    anonymous = gateway.anonymous()

    def ask(text: str) -> int:
        headers = {"Authorization": f"Bearer {text}"}
        return anonymous.get("/v1/files", headers=headers).status_code

    assert [ask(key.text), ask(mixed)] == [200, 401]
    assert anonymous.get("/v1/files", params={"api_key": key.text}).status_code == 401
    with gateway.database.session() as session:
        ApiKeyRepository(session).revoke(key.project_id, key.id)
    assert ask(key.text) == 401


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("OpenAI-Project", "mismatched_project"),
        ("OpenAI-Organization", "mismatched_organization"),
    ],
)
def test_a_header_that_names_another_tenant_than_the_key_is_refused(
    acme: TestClient, rival: TestClient, header: str, code: str
) -> None:
    project = create_job(acme)["organization_id"]

    own = acme.get("/v1/fine_tuning/jobs", headers={header: project})
    empty = acme.get("/v1/fine_tuning/jobs", headers={header: ""})
    other = rival.get("/v1/fine_tuning/jobs", headers={header: project})

    assert (own.status_code, empty.status_code, other.status_code) == (200, 200, 401)
    assert error_of(other)["code"] == code


def test_unknown_methods_and_addresses_get_the_envelope(gateway: Gateway, acme: TestClient) -> None:
    # Read as a job's id, of which there is none.
    known = [*routes(gateway.app), ("GET", "/v1/fine_tuning/jobs/estimate")]
    for path in {path for _, path in known}:
        for method in METHODS:
            response = acme.request(method, path)
            assert response.headers["x-request-id"]
            if (method, path) not in known:
                assert response.status_code == 405, (method, path)
                allowed = {each for each, at in routes(gateway.app) if at == path}
                assert set(response.headers["allow"].split(", ")) >= allowed, path
                if method != "HEAD":
                    assert error_of(response)["code"] == "method_not_allowed"
    for path in ("/", "/v1", "/v1/", "/v1/files/", "/v2/files", "/v1/files/a/b/c", "/admin"):
        response = acme.get(path)
        assert response.status_code == 404, path
        assert error_of(response)["code"] == "unknown_url"


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    method=st.sampled_from(METHODS[:5]),
    route=st.sampled_from(
        [
            "/v1/files",
            "/v1/files/{}",
            "/v1/files/{}/content",
            "/v1/fine_tuning/jobs",
            "/v1/fine_tuning/jobs/{}",
            "/v1/fine_tuning/jobs/{}/cancel",
            "/v1/fine_tuning/jobs/{}/pause",
            "/v1/fine_tuning/jobs/{}/resume",
            "/v1/fine_tuning/jobs/{}/events",
            "/v1/fine_tuning/jobs/{}/checkpoints",
            "/v1/fine_tuning/checkpoints/{}/permissions",
            "/v1/models/{}",
            "/v1/uploads",
            "/v1/uploads/{}/parts",
            "/v1/uploads/{}/complete",
            "/v1/fine_tuning/alpha/graders/{}",
            "/{}",
        ]
    ),
    part=st.text(st.characters(codec="utf-8", exclude_characters="/?#."), min_size=1, max_size=30),
    query=st.dictionaries(
        st.sampled_from(["after", "limit", "order", "purpose", "metadata[a]", "metadata"]),
        st.text(st.characters(codec="utf-8"), max_size=20),
        max_size=3,
    ),
    body=st.binary(max_size=200),
)
def test_whatever_is_asked_the_answer_is_an_object_or_the_envelope(
    acme: TestClient, method: str, route: str, part: str, query: dict[str, str], body: bytes
) -> None:
    address = route.format("".join(f"%{byte:02x}" for byte in part.encode()))

    response = acme.request(method, address, params=query, content=body)

    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        error_of(response)
    else:
        assert response.json()["object"]


def test_a_body_above_the_limit_is_refused_with_and_without_a_length(
    gateway: Gateway, acme: TestClient
) -> None:
    body = b" " * (gateway.settings.max_request_bytes + 1)

    for content in (body, in_pieces(body)):
        response = acme.post("/v1/fine_tuning/jobs", content=content)
        assert response.status_code == 413
        assert error_of(response)["code"] == "payload_too_large"


def test_a_crash_is_answered_without_its_reasons(
    gateway: Gateway, acme: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> None:
        msg = "secret detail"
        raise RuntimeError(msg)

    monkeypatch.setattr(job_service, "retrieve", crash)

    response = acme.get(f"/v1/fine_tuning/jobs/{create_job(acme)['id']}")

    assert response.status_code == 500
    assert error_of(response)["code"] == "internal_error"
    assert "secret detail" not in response.text
    assert gateway.count("jobs") == 1


def test_every_request_has_an_id_of_its_own(acme: TestClient) -> None:
    ids = {acme.get("/healthz").headers["x-request-id"] for _ in range(5)}

    assert len(ids) == 5


class FailingCommit(Database):
    """A database whose connection breaks at each commit after the caller was found."""

    sessions = 0

    @contextmanager
    def session(self) -> Iterator[Session]:
        self.sessions += 1
        with super().session() as session:
            yield session
            if self.sessions > 1:
                raise UnavailableError("The database does not answer.")


def test_a_failing_commit_is_never_answered_with_success(
    gateway: Gateway, acme: TestClient
) -> None:
    file_id = upload_id(acme)
    state = gateway.app.state.gateway
    assert gateway.settings.database_url is not None
    broken = FailingCommit(gateway.settings.database_url)
    gateway.app.state.gateway = replace(state, database=broken)

    response = acme.post("/v1/fine_tuning/jobs", json=job_body(file_id))

    broken.dispose()
    gateway.app.state.gateway = state
    assert response.status_code == 503
    assert error_of(response)["code"] == "service_unavailable"
    assert response.headers["retry-after"] == "2"
    assert gateway.count("jobs") == 0
    assert gateway.count("outbox") == 0


def test_an_upload_that_cannot_be_recorded_leaves_no_bytes(
    gateway: Gateway, acme: TestClient
) -> None:
    state = gateway.app.state.gateway
    assert gateway.settings.database_url is not None
    broken = FailingCommit(gateway.settings.database_url)
    gateway.app.state.gateway = replace(state, database=broken)

    response = acme.post(
        "/v1/files", data={"purpose": "user_data"}, files={"file": ("t.jsonl", b"rows")}
    )

    broken.dispose()
    gateway.app.state.gateway = state
    assert response.status_code == 503
    assert gateway.stored_files() == []
