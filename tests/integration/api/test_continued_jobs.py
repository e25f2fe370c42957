"""Jobs on a tuned model: who may continue what, and in which shape."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from core.job_spec import JobSpec
from core.job_state import Verdict
from core.models import Job
from tests.integration.api.builders import (
    MODEL,
    Gateway,
    claim,
    create_job,
    error_of,
    finish,
    job_body,
    upload_id,
)

JOBS = "/v1/fine_tuning/jobs"


def tuned_model(gateway: Gateway, client: TestClient, **hyperparameters: object) -> dict[str, Any]:
    """Have a job succeed; give it as the API shows it."""
    method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    job = create_job(client, method=method)
    finish(gateway, claim(gateway), Verdict.RELEASED)
    shown: dict[str, Any] = client.get(f"{JOBS}/{job['id']}").json()
    return shown


def continued(client: TestClient, model: str, **hyperparameters: object) -> Any:  # noqa: ANN401
    method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    body = job_body(upload_id(client), method=method) | {"model": model}
    return client.post(JOBS, json=body)


def spec_of(gateway: Gateway, job_id: str) -> JobSpec:
    with gateway.database.session() as session:
        job = session.get(Job, job_id)
        assert job is not None
        return JobSpec.model_validate(job.spec)


def test_a_job_may_continue_an_own_tuned_model(gateway: Gateway, acme: TestClient) -> None:
    parent = tuned_model(gateway, acme)

    job = continued(acme, parent["fine_tuned_model"]).json()

    assert job["status"] == "queued"
    assert job["model"] == parent["fine_tuned_model"]
    spec = spec_of(gateway, job["id"])
    assert spec.model == MODEL
    assert spec.parent is not None
    assert spec.parent.job_id == parent["id"]
    assert spec.parent.file_id == parent["result_files"][1]
    archive = acme.get(f"/v1/files/{spec.parent.file_id}").json()
    assert spec.parent.sha256 == archive["sha256"]


def test_the_shape_of_the_tuned_model_is_the_default_and_the_least(
    gateway: Gateway, acme: TestClient
) -> None:
    parent = tuned_model(gateway, acme, lora_rank=16, lora_alpha=8)

    same = continued(acme, parent["fine_tuned_model"]).json()["hyperparameters"]
    larger = continued(acme, parent["fine_tuned_model"], lora_rank=32).json()["hyperparameters"]
    smaller = continued(acme, parent["fine_tuned_model"], lora_rank=8)

    assert (same["lora_rank"], same["lora_alpha"]) == (16, 8)
    assert (larger["lora_rank"], larger["lora_alpha"]) == (32, 16)
    assert smaller.status_code == 400
    assert "at least 16" in error_of(smaller)["message"]


def test_a_continued_model_tells_its_parent(gateway: Gateway, acme: TestClient) -> None:
    parent = tuned_model(gateway, acme)
    job = continued(acme, parent["fine_tuned_model"]).json()
    finish(gateway, claim(gateway), Verdict.RELEASED)
    name = acme.get(f"{JOBS}/{job['id']}").json()["fine_tuned_model"]

    shown = acme.get(f"/v1/models/{name}").json()

    assert shown["base_model"] == MODEL
    assert shown["parent_model"] == parent["fine_tuned_model"]
    assert acme.get(f"/v1/models/{parent['fine_tuned_model']}").json()["parent_model"] is None


def test_nobody_continues_the_model_of_another_project(
    gateway: Gateway, acme: TestClient, rival: TestClient
) -> None:
    parent = tuned_model(gateway, acme)
    before = gateway.count("jobs")

    response = continued(rival, parent["fine_tuned_model"])

    assert response.status_code == 400
    assert error_of(response)["param"] == "model"
    assert error_of(response)["code"] == "model_not_available"
    assert parent["id"] not in response.text
    assert gateway.count("jobs") == before


def test_a_model_whose_adapter_was_deleted_cannot_be_continued(
    gateway: Gateway, acme: TestClient
) -> None:
    parent = tuned_model(gateway, acme)
    assert acme.delete(f"/v1/files/{parent['result_files'][1]}").status_code == 200

    response = continued(acme, parent["fine_tuned_model"])

    assert error_of(response)["code"] == "model_not_available"


@pytest.mark.parametrize("ending", ["", ":ckpt-step-1", "x"])
def test_a_blocked_or_made_up_model_cannot_be_continued(
    gateway: Gateway, acme: TestClient, ending: str
) -> None:
    job = create_job(acme)
    finish(gateway, claim(gateway), Verdict.BLOCKED)

    response = continued(acme, f"ft:{MODEL}:acme::{job['id'][-8:]}{ending}")

    assert error_of(response)["code"] == "model_not_available"
