"""Estimates over HTTP: of jobs that are not created, of waiting ones and of running ones."""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from api.main import create_app
from core.estimation.workload import FileSize, JobSize
from core.job_stages import FOLLOW_UP_ALONE
from core.job_state import Verdict
from core.models import Job
from core.repositories.job_leases import Claim, JobLeaseRepository
from core.repositories.stage_timings import MeasuredStage, StageTimingRepository
from core.stages import Stage
from tests.integration.api.builders import (
    BAD_ROWS,
    GOOD_ROWS,
    MODEL,
    Gateway,
    claim,
    create_job,
    error_of,
    finish,
    job_body,
    row,
    upload_id,
)

JOBS = "/v1/fine_tuning/jobs"
ESTIMATE = f"{JOBS}/estimate"


def estimate(client: TestClient, content: bytes = GOOD_ROWS, **more: object) -> dict[str, Any]:
    response = client.post(ESTIMATE, json=job_body(upload_id(client, content), **more))
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def supervised(**more: object) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": more}}


def measure(gateway: Gateway, held: Claim, seconds: float, stage: Stage = Stage.FINE_TUNE) -> None:
    """Do what a worker does after a stage of a job on `GOOD_ROWS`, read twice."""
    size = JobSize(FileSize(10, len(GOOD_ROWS)), None, 100, 48, 2)
    with gateway.database.session() as session:
        StageTimingRepository(session).record(
            held.job_id, held.fence, MeasuredStage(stage, "cpu", seconds, size, 480, 2 * 10**9)
        )


def is_range(value: dict[str, float]) -> bool:
    return set(value) == {"low", "expected", "high"} and (
        0 <= value["low"] <= value["expected"] <= value["high"]
    )


@pytest.fixture(autouse=True)
def _nothing_measured_and_nothing_running(gateway: Gateway) -> None:
    with gateway.database.session() as session:
        session.execute(text("TRUNCATE stage_timings"))
        session.execute(
            text(
                "UPDATE jobs SET status = 'cancelled', finished_at = clock_timestamp(),"
                " lease_holder = NULL, lease_expires_at = NULL WHERE status = 'running'"
            )
        )


def test_every_quantity_of_an_estimate_is_a_range(gateway: Gateway, acme: TestClient) -> None:
    found = estimate(acme)

    quantities = ["tokens", "steps", "memory_bytes", "wait_minutes", "minutes"]
    assert all(is_range(found[name]) for name in quantities), found
    assert all(is_range(value) for value in found["guard"].values())
    assert all(is_range(stage["minutes"]) for stage in found["stages"])
    assert [stage["stage"] for stage in found["stages"]] == [
        stage.value for stage in Stage if stage not in {Stage.RELEASE_CHECKPOINT, *FOLLOW_UP_ALONE}
    ]
    assert (found["object"], found["model"]) == ("fine_tuning.job.estimate", MODEL)
    assert (found["basis"], found["jobs"], found["device"]) == ("reference", 0, None)
    assert found["steps"] == {"low": 6, "expected": 6, "high": 6}
    assert found["guard"]["steps"] == {"low": 0, "expected": 0, "high": 0}
    assert found["cost"] is None
    assert gateway.count("jobs") == gateway.count("outbox") == 0


def test_more_guarding_and_more_epochs_take_longer(acme: TestClient) -> None:
    usual = estimate(acme)
    ending = {"type": "alignment_merge"}
    often = {"type": "panacea", "guard_interval": 1, "post_fine_tuning": ending}
    guarded = estimate(acme, **supervised(defense=often))
    undefended = estimate(acme, **supervised(defense={"type": "none"}))
    longer = estimate(acme, **supervised(hyperparameters={"n_epochs": 20}))

    assert guarded["guard"]["steps"]["expected"] == 6
    assert guarded["guard"]["tokens"]["expected"] > usual["guard"]["tokens"]["expected"]
    assert undefended["guard"]["minutes"]["high"] == 0
    expected = [one["minutes"]["expected"] for one in (undefended, usual, guarded, longer)]
    assert expected == sorted(expected)
    assert longer["tokens"]["expected"] == pytest.approx(10 * usual["tokens"]["expected"], rel=0.01)


def test_an_estimate_rests_on_what_jobs_on_the_model_took(
    gateway: Gateway, acme: TestClient
) -> None:
    create_job(acme)
    measure(gateway, claim(gateway), seconds=600.0)

    found = estimate(acme)

    (training,) = [one for one in found["stages"] if one["stage"] == "fine_tune"]
    assert (found["basis"], found["jobs"], found["device"]) == ("measured", 1, "cpu")
    assert (training["basis"], training["jobs"]) == ("measured", 1)
    assert training["minutes"]["expected"] == pytest.approx(10, rel=0.01)
    assert found["tokens"]["expected"] == 480
    assert found["memory_bytes"]["expected"] == pytest.approx(2e9, rel=0.01)


def test_a_price_gives_a_cost(gateway: Gateway, acme: TestClient) -> None:
    priced = gateway.settings.model_copy(update={"price_per_hour": 6.0})

    with TestClient(create_app(priced), headers=dict(acme.headers)) as client:
        found = estimate(client)

    assert is_range(found["cost"])
    assert found["cost"]["expected"] == pytest.approx(found["minutes"]["expected"] / 10, rel=0.1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "no-such-model"},
        {"training_file": "file-missing"},
        {"seed": -1},
        {"n_epochs": 3},
        supervised(hyperparameters={"n_epochs": 0}),
        supervised(hyperparameters={"lora_rank": 2}),
        supervised(defense={"type": "panacea", "guard_intervall": 1}),
        {"method": {"type": "reinforcement"}},
    ],
)
def test_a_wrong_body_is_refused_exactly_as_by_creation(
    gateway: Gateway, acme: TestClient, wrong: dict[str, Any]
) -> None:
    body = job_body(upload_id(acme)) | wrong

    estimated, created = acme.post(ESTIMATE, json=body), acme.post(JOBS, json=body)

    assert estimated.status_code == created.status_code
    assert created.status_code in {400, 404}
    assert error_of(estimated) == error_of(created)
    assert gateway.count("jobs") == 0


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
def test_a_file_with_mistakes_is_refused_with_the_error_its_job_would_have(
    acme: TestClient, param: str
) -> None:
    body = job_body(upload_id(acme)) | {param: upload_id(acme, BAD_ROWS)}

    response = acme.post(ESTIMATE, json=body)
    job = acme.post(JOBS, json=body).json()

    error = error_of(response)
    assert response.status_code == 400
    assert job["status"] == "failed"
    assert {name: error[name] for name in ("code", "message", "param")} == job["error"]
    assert error["code"] == f"invalid_{param}"


def test_a_file_of_another_project_is_not_found(acme: TestClient, rival: TestClient) -> None:
    response = rival.post(ESTIMATE, json=job_body(upload_id(acme)))

    assert response.status_code == 404
    assert error_of(response)["code"] == "file_not_found"


def test_a_body_that_is_too_large_is_refused(gateway: Gateway, acme: TestClient) -> None:
    response = acme.post(ESTIMATE, content=b" " * (gateway.settings.max_request_bytes + 1))

    assert response.status_code == 413
    assert error_of(response)["code"] == "payload_too_large"


def test_waiting_jobs_say_when_they_start_and_end_one_behind_the_other(acme: TestClient) -> None:
    first, second = create_job(acme), create_job(acme)

    took = first["estimate"]["minutes"]["expected"] * 60
    assert first["queue"]["estimated_start"] == pytest.approx(time.time(), abs=30)
    assert first["estimated_finish"] == pytest.approx(
        first["queue"]["estimated_start"] + took, abs=2
    )
    assert second["queue"]["position"] == 2
    assert second["queue"]["estimated_start"] == pytest.approx(first["estimated_finish"], abs=30)
    assert (first["progress"], first["estimate"]["basis"]) == (None, "reference")


def test_an_estimate_knows_what_waits_before_the_job(acme: TestClient) -> None:
    alone = estimate(acme)
    ahead = create_job(acme)

    found = estimate(acme)

    assert alone["wait_minutes"] == {"low": 0, "expected": 0, "high": 0}
    assert found["wait_minutes"]["low"] == 0
    assert found["wait_minutes"]["expected"] == pytest.approx(
        ahead["estimate"]["minutes"]["expected"], rel=0.01
    )


def test_a_project_that_may_run_nothing_gets_no_start(gateway: Gateway, acme: TestClient) -> None:
    with gateway.database.session() as session:
        session.execute(
            text("UPDATE projects SET running_jobs_limit = 0 WHERE name = :name"),
            {"name": gateway.project("acme")},
        )

    job = create_job(acme)

    assert job["queue"] == {"position": 1, "estimated_start": None}
    assert job["estimated_finish"] is None


def test_a_job_that_was_just_claimed_is_at_its_beginning(
    gateway: Gateway, acme: TestClient
) -> None:
    job_id = create_job(acme)["id"]
    claim(gateway)

    job = acme.get(f"{JOBS}/{job_id}").json()

    assert job["status"] == "running"
    assert job["progress"] == {
        "stage": "validate_dataset",
        "step": 0,
        "total_steps": 6,
        "percent": 0.0,
        "checkpoint": None,
    }
    assert job["estimated_finish"] > time.time()
    assert job["queue"] is None


def test_the_end_of_a_running_job_is_never_shown_in_the_past(
    gateway: Gateway, acme: TestClient
) -> None:
    create_job(acme)
    held = claim(gateway)
    past = datetime.now(UTC) - timedelta(hours=1)
    progress = {"stage": "evaluate", "step": 6, "total_steps": 6, "percent": 80.5}
    with gateway.database.session() as session:
        JobLeaseRepository(session).record_progress(
            held.job_id, held.fence, progress, estimated_finish_at=past
        )

    job = acme.get(f"{JOBS}/{held.job_id}").json()

    assert job["estimated_finish"] == pytest.approx(time.time(), abs=30)
    assert job["progress"] == progress | {"checkpoint": None}


def test_a_job_that_has_succeeded_is_done_to_the_last_percent(
    gateway: Gateway, acme: TestClient
) -> None:
    create_job(acme)
    held = claim(gateway)
    progress = {"stage": "release", "step": 6, "total_steps": 6, "percent": 99.6}
    with gateway.database.session() as session:
        JobLeaseRepository(session).record_progress(held.job_id, held.fence, progress)
    finish(gateway, held, Verdict.RELEASED)

    job = acme.get(f"{JOBS}/{held.job_id}").json()

    assert job["progress"]["percent"] == 100
    assert job["estimated_finish"] is None


def test_jobs_of_an_earlier_release_are_shown_without_estimates(
    gateway: Gateway, acme: TestClient
) -> None:
    job_id = create_job(acme)["id"]
    with gateway.database.session() as session:
        job = session.get(Job, job_id)
        assert job is not None
        job.estimate = None

    waiting = acme.get(f"{JOBS}/{job_id}").json()
    claim(gateway)
    running = acme.get(f"{JOBS}/{job_id}").json()

    assert (waiting["estimate"], waiting["estimated_finish"]) == (None, None)
    assert waiting["queue"]["estimated_start"] is not None
    assert (running["estimate"], running["estimated_finish"]) == (None, None)
    assert running["progress"]["percent"] == 0


def test_a_job_that_fails_at_once_has_no_estimate(acme: TestClient) -> None:
    body = job_body(upload_id(acme, BAD_ROWS))

    job = acme.post(JOBS, json=body).json()

    assert (job["status"], job["estimate"], job["estimated_finish"]) == ("failed", None, None)


def test_held_out_rows_are_not_counted_as_learned(acme: TestClient) -> None:
    rows = b"".join(row(f"Answer {number}") for number in range(40))

    found = estimate(acme, rows, **supervised(hyperparameters={"n_epochs": 1, "batch_size": 4}))

    assert found["steps"] == {"low": 9, "expected": 9, "high": 10}
