"""Jobs that follow a judged one up: what the gateway checks, and what it hands to a worker."""

import json
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from core.follow_up import TAKEN_OVER, FollowUp, FollowUpKind
from core.job_spec import JobSpec
from core.job_state import Verdict
from core.models import Job
from core.repositories.artifacts import ArtifactRepository
from core.repositories.files import FileRepository
from core.repositories.projects import ProjectRepository
from core.storage.protocol import staging_key
from tests.integration.api.builders import (
    Answer,
    Gateway,
    claim,
    create_job,
    error_of,
    finish,
    upload_id,
)

JOBS = "/v1/fine_tuning/jobs"
PROMPTS = b'{"prompt": "How?"}\n{"prompt": "Why?", "category": "fraud"}\n'
UNGUARDED = {"type": "supervised", "supervised": {"defense": {"type": "none"}}}


def judged(
    gateway: Gateway,
    client: TestClient,
    verdict: Verdict = Verdict.RELEASED,
    kept: Collection[str] = TAKEN_OVER,
    **more: object,
) -> dict[str, Any]:
    """Have a job judged, of which these artifacts are kept."""
    job_id = create_job(client, **more)["id"]
    held = claim(gateway)
    assert held.job_id == job_id
    for name in kept:
        stored = gateway.storage.put_bytes(staging_key(job_id, held.fence, name), b"{}")
        with gateway.database.session() as session:
            ArtifactRepository(session).publish(job_id, held.fence, name, stored)
    finish(gateway, held, verdict)
    shown: dict[str, Any] = client.get(f"{JOBS}/{job_id}").json()
    return shown


def strength(client: TestClient, job_id: str, value: object = 0.8, **headers: str) -> Answer:
    return client.post(f"{JOBS}/{job_id}/strength", json={"strength": value}, headers=headers)


def rerun(client: TestClient, job_id: str, **body: object) -> Answer:
    return client.post(f"{JOBS}/{job_id}/safety/rerun", json=body)


def prompts_id(client: TestClient, content: bytes = PROMPTS) -> str:
    return upload_id(client, content, "user_data")


def assert_refused(response: Answer, code: str, param: str = "fine_tuning_job_id") -> str:
    error = error_of(response)
    assert (response.status_code, error["code"], error["param"]) == (400, code, param)
    return str(error["message"])


def spec_of(gateway: Gateway, job_id: str) -> JobSpec:
    with gateway.database.session() as session:
        job = session.get(Job, job_id)
        assert job is not None
        return JobSpec.model_validate(job.spec)


def test_another_strength_is_a_job_that_echoes_the_first_one(
    gateway: Gateway, acme: TestClient
) -> None:
    origin = judged(gateway, acme, suffix="support", seed=5, metadata={"team": "one"})

    job: dict[str, Any] = strength(acme, origin["id"]).json()

    echoed = (
        "model",
        "training_file",
        "validation_file",
        "method",
        "hyperparameters",
        "defense",
        "seed",
        "user_provided_suffix",
        "metadata",
    )
    assert {name: job[name] for name in echoed} == {name: origin[name] for name in echoed}
    assert job["id"] != origin["id"]
    assert (job["status"], job["queue"]["position"]) == ("queued", 1)
    assert (job["trained_tokens"], job["fine_tuned_model"], job["result_files"]) == (0, None, [])
    assert job["estimate"]["minutes"]["expected"] < origin["estimate"]["minutes"]["expected"]
    assert job["estimated_finish"] is not None
    assert job["follow_up"] == {
        "kind": "strength",
        "job_id": origin["id"],
        "strength": 0.8,
        "prompts": None,
        "include": [],
    }
    assert origin["follow_up"] is None
    assert acme.get(f"{JOBS}/{job['id']}").json() == job
    spec = spec_of(gateway, job["id"])
    assert spec.version == 2
    assert spec.follow_up == FollowUp(kind=FollowUpKind.STRENGTH, job_id=origin["id"], strength=0.8)
    messages = [event["message"] for event in acme.get(f"{JOBS}/{job['id']}/events").json()["data"]]
    assert messages[0] == f"It applies the perturbation of {origin['id']} at strength 0.8."
    assert gateway.count("outbox") == 2  # a wake-up for each of the two


def test_judging_again_reads_the_projects_prompts(gateway: Gateway, acme: TestClient) -> None:
    origin = judged(gateway, acme)
    file_id = prompts_id(acme)

    job: dict[str, Any] = rerun(acme, origin["id"], prompts=file_id).json()

    assert (job["follow_up"]["kind"], job["follow_up"]["prompts"]) == ("safety", file_id)
    follow_up = spec_of(gateway, job["id"]).follow_up
    assert follow_up is not None
    assert follow_up.prompts is not None
    assert follow_up.prompts.prompts == 2
    assert follow_up.prompts.sha256 == acme.get(f"/v1/files/{file_id}").json()["sha256"]


@pytest.mark.parametrize("ask", [strength, rerun])
def test_a_blocked_job_can_be_followed_up(
    gateway: Gateway, acme: TestClient, ask: Callable[[TestClient, str], Answer]
) -> None:
    origin = judged(gateway, acme, Verdict.BLOCKED)

    assert ask(acme, origin["id"]).status_code == 200
    assert acme.get(f"{JOBS}/{origin['id']}").json()["status"] == "failed"


@pytest.mark.parametrize("ask", [strength, rerun])
def test_the_job_of_another_project_does_not_exist(
    gateway: Gateway,
    acme: TestClient,
    rival: TestClient,
    ask: Callable[[TestClient, str], Answer],
) -> None:
    origin = judged(gateway, acme)
    before = gateway.count("jobs")

    response = ask(rival, origin["id"])

    assert (response.status_code, error_of(response)["param"]) == (404, "fine_tuning_job_id")
    assert gateway.count("jobs") == before


@pytest.mark.parametrize("ask", [strength, rerun])
def test_a_job_that_was_not_judged_cannot_be_followed_up(
    gateway: Gateway, acme: TestClient, ask: Callable[[TestClient, str], Answer]
) -> None:
    job_id = create_job(acme)["id"]

    waiting = assert_refused(ask(acme, job_id), "job_not_judged")
    claim(gateway)
    running = assert_refused(ask(acme, job_id), "job_not_judged")
    cancelled_id = create_job(acme)["id"]
    acme.post(f"{JOBS}/{cancelled_id}/cancel")
    cancelled = assert_refused(ask(acme, cancelled_id), "job_not_judged")

    assert waiting == running
    assert waiting.startswith("The job is not finished.")
    assert cancelled.startswith("The job ended without")


def test_a_job_without_a_perturbation_can_only_be_judged_again(
    gateway: Gateway, acme: TestClient
) -> None:
    origin = judged(gateway, acme, method=UNGUARDED)

    assert_refused(strength(acme, origin["id"]), "no_perturbation")
    assert rerun(acme, origin["id"]).status_code == 200


@pytest.mark.parametrize("value", [-0.1, 10.5, "auto", "1", None, True, [1]])
def test_a_strength_is_a_number_from_0_to_10(
    gateway: Gateway, acme: TestClient, value: object
) -> None:
    origin = judged(gateway, acme)

    assert_refused(strength(acme, origin["id"], value), "invalid_value", "strength")


@pytest.mark.parametrize("value", [0, 10])
def test_the_ends_of_the_range_are_strengths_too(
    gateway: Gateway, acme: TestClient, value: int
) -> None:
    origin = judged(gateway, acme)

    assert strength(acme, origin["id"], value).json()["follow_up"]["strength"] == value


def test_a_body_says_nothing_else(gateway: Gateway, acme: TestClient) -> None:
    origin = judged(gateway, acme)
    body = {"strength": 1, "kappa": 1}

    response = acme.post(f"{JOBS}/{origin['id']}/strength", json=body)

    assert_refused(response, "invalid_value", "kappa")
    assert_refused(rerun(acme, origin["id"], judge="x"), "invalid_value", "judge")


def delete_training_file(client: TestClient, job: dict[str, Any]) -> None:
    assert client.delete(f"/v1/files/{job['training_file']}").status_code == 200


def delete_model(client: TestClient, job: dict[str, Any]) -> None:
    assert client.delete(f"/v1/models/{job['fine_tuned_model']}").status_code == 200


@pytest.mark.parametrize("delete", [delete_training_file, delete_model])
def test_what_the_owner_has_deleted_is_not_used_again(
    gateway: Gateway, acme: TestClient, delete: Callable[[TestClient, dict[str, Any]], None]
) -> None:
    origin = judged(gateway, acme)

    delete(acme, origin)

    assert_refused(strength(acme, origin["id"]), "training_not_kept")


def test_a_job_of_which_something_is_no_longer_kept_cannot_be_followed_up(
    gateway: Gateway, acme: TestClient
) -> None:
    origin = judged(gateway, acme, kept=TAKEN_OVER[1:])

    message = assert_refused(rerun(acme, origin["id"]), "training_not_kept")

    assert "30 days" in message


def test_a_base_model_that_is_no_longer_offered_is_refused(
    gateway: Gateway, acme: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = judged(gateway, acme)
    monkeypatch.setattr("core.model_registry.ModelRegistry.__contains__", lambda *_: False)

    assert_refused(strength(acme, origin["id"]), "model_not_available")


def test_a_waiting_follow_up_keeps_the_training_and_the_prompts(
    gateway: Gateway, acme: TestClient
) -> None:
    origin, file_id = judged(gateway, acme), prompts_id(acme)
    job = rerun(acme, origin["id"], prompts=file_id).json()

    def kept() -> bool:
        with gateway.database.session() as session:
            return origin["id"] in ArtifactRepository(session).list_kept(timedelta(0))

    def is_expired() -> bool:
        with gateway.database.session() as session:
            found = FileRepository(session).list_expired(timedelta(0))
        return file_id in {file.id for file in found}

    assert kept()
    response = acme.delete(f"/v1/files/{file_id}")
    assert error_of(response)["code"] == "file_in_use"
    with gateway.database.session() as session:
        session.execute(
            text("UPDATE files SET expires_at = now() - interval '9 days' WHERE id = :id"),
            {"id": file_id},
        )
    assert not is_expired()

    acme.post(f"{JOBS}/{job['id']}/cancel")

    assert not kept()
    assert is_expired()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'{"prompt": "How?"}\n{"text": "How?"}\n', "Line 2: prompt: "),
        (b"", "The file holds no prompts."),
        (json.dumps({"prompt": "x" * 2000}).encode(), "Line 1: the line has more than 2000 bytes"),
    ],
)
def test_prompts_with_a_mistake_are_refused_with_the_line(
    gateway: Gateway, acme: TestClient, content: bytes, problem: str
) -> None:
    origin = judged(gateway, acme)
    before = gateway.count("jobs")

    response = rerun(acme, origin["id"], prompts=prompts_id(acme, content))

    assert assert_refused(response, "invalid_prompts", "prompts").startswith(problem)
    assert gateway.count("jobs") == before


def test_prompts_are_a_file_of_the_project_and_of_their_purpose(
    gateway: Gateway, acme: TestClient, rival: TestClient
) -> None:
    origin = judged(gateway, acme)

    foreign = rerun(acme, origin["id"], prompts=prompts_id(rival))
    rows = rerun(acme, origin["id"], prompts=origin["training_file"])

    assert foreign.status_code == 404
    assert error_of(foreign)["code"] == "file_not_found"
    assert_refused(rows, "wrong_file_purpose", "prompts")


@pytest.mark.parametrize("value", ["", "file 1", 3])
def test_what_is_no_file_id_is_refused(gateway: Gateway, acme: TestClient, value: object) -> None:
    origin = judged(gateway, acme)

    assert_refused(rerun(acme, origin["id"], prompts=value), "invalid_value", "prompts")


def test_what_a_report_cannot_hold_is_refused(gateway: Gateway, acme: TestClient) -> None:
    origin = judged(gateway, acme)

    assert_refused(rerun(acme, origin["id"], include=["poetry"]), "invalid_value", "include[0]")
    assert rerun(acme, origin["id"], include=[]).status_code == 200


def test_a_repeated_request_is_the_same_job(gateway: Gateway, acme: TestClient) -> None:
    origin = judged(gateway, acme)
    first = strength(acme, origin["id"], 0.5, **{"Idempotency-Key": "once"}).json()

    again = strength(acme, origin["id"], 0.5, **{"Idempotency-Key": "once"}).json()
    other = strength(acme, origin["id"], 0.6, **{"Idempotency-Key": "once"})
    retried = strength(acme, origin["id"], 0.5, **{"X-Stainless-Retry-Count": "1"}).json()
    anew = strength(acme, origin["id"], 0.5).json()

    assert first["id"] == again["id"] == retried["id"] != anew["id"]
    assert_refused_key(other)
    key_of_another_route = acme.post(
        f"{JOBS}/{origin['id']}/safety/rerun", json={}, headers={"Idempotency-Key": "once"}
    )
    assert_refused_key(key_of_another_route)
    assert gateway.count("jobs") == 3


def assert_refused_key(response: Answer) -> None:
    assert (response.status_code, error_of(response)["code"]) == (400, "idempotency_key_reused")


def test_a_follow_up_counts_as_a_waiting_job(gateway: Gateway, acme: TestClient) -> None:
    origin = judged(gateway, acme)
    with gateway.database.session() as session:
        projects = ProjectRepository(session)
        project = projects.find_by_name(gateway.project("acme"))
        assert project is not None
        projects.update(project.id, {"queued_jobs_limit": 1})

    assert strength(acme, origin["id"]).status_code == 200
    response = strength(acme, origin["id"])

    assert (response.status_code, error_of(response)["code"]) == (429, "insufficient_quota")


def test_a_body_that_is_too_large_is_refused(gateway: Gateway, acme: TestClient) -> None:
    origin = judged(gateway, acme)

    for path in ("strength", "safety/rerun"):
        response = acme.post(f"{JOBS}/{origin['id']}/{path}", content=b" " * 20_001)
        assert response.status_code == 413


def test_a_follow_up_can_be_cancelled_and_shows_no_adapter(
    gateway: Gateway, acme: TestClient
) -> None:
    job = strength(acme, judged(gateway, acme)["id"]).json()

    assert acme.get(f"{JOBS}/{job['id']}/adapter").status_code == 400
    assert acme.post(f"{JOBS}/{job['id']}/cancel").json()["status"] == "cancelled"
