"""What a finished job hands out, and the sweep for what must never be handed out."""

import hashlib
import json
from collections.abc import Iterator

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from core.job_state import Verdict
from core.models import Scope
from tests.integration.api.builders import (
    ANSWERS,
    ARCHIVE,
    Gateway,
    claim,
    create_job,
    error_of,
    finish,
    judge_checkpoint,
    stage_archive,
)

JOBS = "/v1/fine_tuning/jobs"
ARCHIVE_SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


def released_job(gateway: Gateway, client: TestClient) -> str:
    job_id = str(create_job(client)["id"])
    finish(gateway, claim(gateway), Verdict.RELEASED)
    return job_id


def blocked_job(gateway: Gateway, client: TestClient) -> str:
    job_id = str(create_job(client)["id"])
    finish(gateway, claim(gateway), Verdict.BLOCKED)
    return job_id


def waiting_job(_: Gateway, client: TestClient) -> str:
    return str(create_job(client)["id"])


def running_job(gateway: Gateway, client: TestClient) -> str:
    job_id = waiting_job(gateway, client)
    stage_archive(gateway, claim(gateway))
    return job_id


def test_a_released_job_names_its_model_and_files(gateway: Gateway, acme: TestClient) -> None:
    job = acme.get(f"{JOBS}/{released_job(gateway, acme)}").json()

    assert job["status"] == "succeeded"
    assert job["fine_tuned_model"].startswith("ft:smollm2-135m-instruct:acme::")
    assert (job["trained_tokens"], job["safety"]) == (1234, {"verdict": "released"})
    names = [acme.get(f"/v1/files/{file_id}").json()["filename"] for file_id in job["result_files"]]
    assert names == ["metrics.csv", "adapter.tar", "report.json"]


def test_the_archive_is_the_second_result_and_has_a_route_of_its_own(
    gateway: Gateway, acme: TestClient
) -> None:
    job_id = released_job(gateway, acme)
    file_id = acme.get(f"{JOBS}/{job_id}").json()["result_files"][1]

    by_file = acme.get(f"/v1/files/{file_id}/content")
    by_job = acme.get(f"{JOBS}/{job_id}/adapter")
    part = acme.get(f"{JOBS}/{job_id}/adapter", headers={"Range": "bytes=7-12"})

    assert by_file.content == by_job.content == ARCHIVE
    assert by_job.headers["x-content-sha256"] == ARCHIVE_SHA256
    assert (part.status_code, part.content) == (206, ARCHIVE[7:13])


def test_result_files_cannot_be_trained_on(gateway: Gateway, acme: TestClient) -> None:
    job_id = released_job(gateway, acme)
    file_id = acme.get(f"{JOBS}/{job_id}").json()["result_files"][0]

    response = acme.post(JOBS, json={"model": "smollm2-135m-instruct", "training_file": file_id})

    assert response.status_code == 400
    assert error_of(response)["code"] == "wrong_file_purpose"


@pytest.mark.parametrize(
    ("make", "verdict"), [(released_job, b"released"), (blocked_job, b"blocked")]
)
def test_the_safety_report_is_there_either_way(
    gateway: Gateway, acme: TestClient, make: type, verdict: bytes
) -> None:
    response = acme.get(f"{JOBS}/{make(gateway, acme)}/safety_report")

    assert response.status_code == 200
    assert verdict in response.content
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("make", [released_job, blocked_job])
def test_the_judged_answers_are_there_either_way(
    gateway: Gateway, acme: TestClient, make: type
) -> None:
    job_id = make(gateway, acme)

    response = acme.get(f"{JOBS}/{job_id}/safety_report/answers")

    assert response.status_code == 200
    assert response.content == ANSWERS
    assert response.headers["content-type"] == "application/jsonl"
    listed = {file["filename"] for file in acme.get("/v1/files").json()["data"]}
    assert "answers.jsonl" in listed


def test_an_unfinished_job_has_no_judged_answers(gateway: Gateway, acme: TestClient) -> None:
    job_id = running_job(gateway, acme)

    response = acme.get(f"{JOBS}/{job_id}/safety_report/answers")

    assert (response.status_code, error_of(response)["code"]) == (404, "no_report")
    assert error_of(response)["message"] == "The job is still running and has no judged answers."


def test_nobody_else_reads_a_jobs_answers(
    gateway: Gateway, acme: TestClient, rival: TestClient, anonymous: TestClient
) -> None:
    job_id = released_job(gateway, acme)

    address = f"{JOBS}/{job_id}/safety_report/answers"

    assert rival.get(address).status_code == 404
    assert anonymous.get(address).status_code == 401
    assert acme.get(address).status_code == 200


def test_a_blocked_job_says_why_and_gives_no_adapter(gateway: Gateway, acme: TestClient) -> None:
    job_id = blocked_job(gateway, acme)

    job = acme.get(f"{JOBS}/{job_id}").json()
    response = acme.get(f"{JOBS}/{job_id}/adapter")

    assert job["status"] == "failed"
    assert job["error"]["code"] == "model_policy_violation"
    assert job["safety"]["verdict"] == "blocked"
    assert len(job["result_files"]) == 2
    assert response.status_code == 400
    assert error_of(response)["code"] == "model_policy_violation"


def test_an_unfinished_job_has_no_adapter_yet(gateway: Gateway, acme: TestClient) -> None:
    job_id = running_job(gateway, acme)

    adapter = acme.get(f"{JOBS}/{job_id}/adapter")
    report = acme.get(f"{JOBS}/{job_id}/safety_report")

    assert (adapter.status_code, error_of(adapter)["code"]) == (400, "adapter_not_ready")
    assert error_of(adapter)["message"].startswith("The job is still running; ")
    assert (report.status_code, error_of(report)["code"]) == (404, "no_report")
    assert error_of(report)["message"] == "The job is still running and has no safety report."


ATTRIBUTION = {
    "training_rows": 10,
    "attributed_rows": 2,
    "rows": [
        {"rank": 1, "line": 7, "score": 0.25, "percentile": 1.0},
        {"rank": 2, "line": 3, "score": -0.5, "percentile": 0.0},
    ],
}


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_ranking_of_the_rows_is_there_either_way(
    gateway: Gateway, acme: TestClient, verdict: Verdict
) -> None:
    job_id = str(create_job(acme)["id"])
    finish(gateway, claim(gateway), verdict, report={"attribution": ATTRIBUTION})

    response = acme.get(f"{JOBS}/{job_id}/attribution")

    assert response.status_code == 200
    assert response.json() == {
        "object": "fine_tuning.job.attribution",
        "fine_tuning_job_id": job_id,
        "training_rows": 10,
        "attributed_rows": 2,
        "data": ATTRIBUTION["rows"],
    }


def test_without_a_report_or_in_an_old_one_there_is_no_ranking(
    gateway: Gateway, acme: TestClient
) -> None:
    old, running = released_job(gateway, acme), running_job(gateway, acme)

    answers = [acme.get(f"{JOBS}/{job_id}/attribution") for job_id in (old, running)]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert [error_of(answer)["code"] for answer in answers] == ["no_attribution", "no_report"]


def test_a_cancelled_job_has_no_adapter(gateway: Gateway, acme: TestClient) -> None:
    job_id = waiting_job(gateway, acme)
    acme.post(f"{JOBS}/{job_id}/cancel")

    response = acme.get(f"{JOBS}/{job_id}/adapter")

    assert (response.status_code, error_of(response)["code"]) == (404, "no_adapter")
    assert error_of(response)["message"] == "The job was cancelled and has no adapter."


def test_a_deleted_archive_is_gone_from_both_routes(gateway: Gateway, acme: TestClient) -> None:
    job_id = released_job(gateway, acme)
    file_id = acme.get(f"{JOBS}/{job_id}").json()["result_files"][1]

    acme.delete(f"/v1/files/{file_id}")

    assert acme.get(f"/v1/files/{file_id}/content").status_code == 404
    adapter = acme.get(f"{JOBS}/{job_id}/adapter")
    assert (adapter.status_code, error_of(adapter)["code"]) == (404, "no_adapter")
    assert error_of(adapter)["message"] == "The job has succeeded, but its adapter was deleted."
    assert acme.get(f"{JOBS}/{job_id}").json()["status"] == "succeeded"


def everything_known(gateway: Gateway, job_id: str) -> list[str]:
    """Every id, hash and storage key that has to do with a job, in the database or on the disk."""
    found = {job_id}
    with gateway.database.session() as session:
        for statement in (
            "SELECT id, fine_tuned_model FROM jobs WHERE id = :job",
            "SELECT id, storage_key FROM files WHERE job_id = :job",
            "SELECT id, archive_sha256 FROM gate_decisions WHERE job_id = :job",
            "SELECT id, model FROM checkpoints WHERE job_id = :job",
        ):
            for pair in session.execute(text(statement), {"job": job_id}):
                found |= {value for value in pair if value}
    root = gateway.settings.storage_path
    return sorted(found | {str(path.relative_to(root)) for path in gateway.stored_files()})


def every_answer(gateway: Gateway, client: TestClient, values: list[str]) -> Iterator[bytes]:
    """Call every route that reads with each of the values in each of its places."""
    for path in gateway.app.openapi()["paths"]:
        place = next((part for part in path.split("/") if part.startswith("{")), None)
        for value in values:
            address = path if place is None else path.replace(place, value.replace("/", "%2F"))
            for headers in ({}, {"Range": "bytes=0-"}):
                response = client.get(address, headers=headers)
                yield response.content + json.dumps(dict(response.headers)).encode()
            yield client.get(address, params={"after": value, "purpose": value}).content


def leaks(answer: bytes) -> bool:
    return b"CANARY-TENSOR" in answer or ARCHIVE_SHA256.encode() in answer


@pytest.mark.parametrize("make", [waiting_job, running_job, blocked_job])
def test_no_route_gives_away_an_adapter_that_was_not_released(
    gateway: Gateway, acme: TestClient, rival: TestClient, anonymous: TestClient, make: type
) -> None:
    values = everything_known(gateway, make(gateway, acme))

    for client in (acme, rival, anonymous):
        for answer in every_answer(gateway, client, values):
            assert not leaks(answer)


def test_the_sweep_finds_a_released_adapter_for_its_owner_alone(
    gateway: Gateway, acme: TestClient, rival: TestClient, anonymous: TestClient
) -> None:
    values = everything_known(gateway, released_job(gateway, acme))

    found = [
        any(leaks(answer) for answer in every_answer(gateway, client, values))
        for client in (acme, rival, anonymous)
    ]

    assert found == [True, False, False]


def released_job_with_a_checkpoint(
    gateway: Gateway, client: TestClient, verdict: Verdict
) -> tuple[str, str]:
    """Have a job succeed whose earlier checkpoint was judged so; give the checkpoint's name too."""
    job_id = str(create_job(client)["id"])
    held = claim(gateway)
    judge_checkpoint(gateway, held, 25, verdict)
    finish(gateway, held, Verdict.RELEASED)
    return job_id, f"{client.get(f'{JOBS}/{job_id}').json()['fine_tuned_model']}:ckpt-step-25"


def shows_checkpoint(answer: bytes) -> bool:
    return b"CANARY-CHECKPOINT" in answer


def test_no_route_gives_away_a_checkpoint_that_was_blocked(
    gateway: Gateway, acme: TestClient, rival: TestClient
) -> None:
    job_id, name = released_job_with_a_checkpoint(gateway, acme, Verdict.BLOCKED)
    operator = gateway.caller("operators", list(Scope))
    values = [*everything_known(gateway, job_id), name]

    for client in (acme, rival, operator):
        for answer in every_answer(gateway, client, values):
            assert not shows_checkpoint(answer)


def test_the_sweep_finds_a_released_checkpoint_for_its_owner_alone_though_it_is_shared(
    gateway: Gateway, acme: TestClient, rival: TestClient
) -> None:
    job_id, name = released_job_with_a_checkpoint(gateway, acme, Verdict.RELEASED)
    operator = gateway.caller("operators", list(Scope))
    shared = operator.post(
        f"/v1/fine_tuning/checkpoints/{name}/permissions",
        json={"project_ids": [create_job(rival)["organization_id"]]},
    )
    assert shared.status_code == 200
    values = [*everything_known(gateway, job_id), name]

    found = [
        any(shows_checkpoint(answer) for answer in every_answer(gateway, client, values))
        for client in (acme, rival, operator)
    ]

    assert found == [True, False, False]
