"""Files with a lifetime: hidden when it is over, and removed unless a job still reads them."""

from pathlib import Path

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from core.repositories.job_leases import JobLeaseRepository
from tests.integration.api.builders import (
    GOOD_ROWS,
    Answer,
    Gateway,
    create_job,
    error_of,
    job_body,
    upload_id,
)
from worker.expired import Expired


def upload_for(client: TestClient, seconds: str, anchor: str = "created_at") -> Answer:
    return client.post(
        "/v1/files",
        data={
            "purpose": "fine-tune",
            "expires_after[anchor]": anchor,
            "expires_after[seconds]": seconds,
        },
        files={"file": ("train.jsonl", GOOD_ROWS)},
    )


def let_pass(gateway: Gateway, file_id: str, seconds: int) -> None:
    """Put a file's end so long into the past."""
    with gateway.database.session() as session:
        session.execute(
            text(
                "UPDATE files SET expires_at = clock_timestamp() - make_interval(secs => :s)"
                " WHERE id = :id"
            ),
            {"s": seconds, "id": file_id},
        )


def stored(gateway: Gateway, file_id: str) -> Path:
    return gateway.settings.storage_path / "uploads" / file_id


@pytest.fixture
def expired(gateway: Gateway) -> Expired:
    return Expired(gateway.database, gateway.storage)


@pytest.mark.parametrize("seconds", [3600, 2_592_000])
def test_a_file_says_when_it_goes(acme: TestClient, seconds: int) -> None:
    file = upload_for(acme, str(seconds)).json()

    assert file["expires_at"] == file["created_at"] + seconds
    assert acme.get(f"/v1/files/{file['id']}").json() == file


@pytest.mark.parametrize(
    ("seconds", "anchor", "param"),
    [
        ("3599", "created_at", "expires_after.seconds"),
        ("2592001", "created_at", "expires_after.seconds"),
        ("soon", "created_at", "expires_after.seconds"),
        ("3600", "last_active_at", "expires_after.anchor"),
    ],
)
def test_a_lifetime_out_of_bounds_is_refused(
    gateway: Gateway, acme: TestClient, seconds: str, anchor: str, param: str
) -> None:
    response = upload_for(acme, seconds, anchor)

    assert response.status_code == 400
    assert error_of(response)["param"] == param
    assert gateway.stored_files() == []


def test_a_lifetime_without_an_anchor_is_refused(acme: TestClient) -> None:
    response = acme.post(
        "/v1/files",
        data={"purpose": "fine-tune", "expires_after[seconds]": "3600"},
        files={"file": ("train.jsonl", GOOD_ROWS)},
    )

    assert response.status_code == 400
    assert error_of(response)["param"] == "expires_after.anchor"


def test_an_expired_file_is_hidden_at_once_and_removed_soon(
    gateway: Gateway, acme: TestClient, expired: Expired
) -> None:
    file_id = upload_for(acme, "3600").json()["id"]
    kept = upload_id(acme)
    let_pass(gateway, file_id, 1)

    assert acme.get(f"/v1/files/{file_id}").status_code == 404
    assert acme.get(f"/v1/files/{file_id}/content").status_code == 404
    assert [file["id"] for file in acme.get("/v1/files").json()["data"]] == [kept]
    response = acme.post("/v1/fine_tuning/jobs", json=job_body(file_id))
    assert error_of(response)["code"] == "file_not_found"
    assert expired.remove_files() == 0  # a job of its last second may not be committed yet

    let_pass(gateway, file_id, 200)
    assert expired.remove_files() == 1
    assert expired.remove_files() == 0
    assert not stored(gateway, file_id).exists()
    assert stored(gateway, kept).exists()


def test_a_job_made_in_time_reads_its_file_to_the_end(
    gateway: Gateway, acme: TestClient, expired: Expired
) -> None:
    job = create_job(acme)
    file_id = job["training_file"]
    let_pass(gateway, file_id, 200)

    while_it_waits = expired.remove_files()
    with gateway.database.session() as session:
        held = JobLeaseRepository(session).claim_next("worker-1", 60.0)
    while_it_runs = expired.remove_files()
    assert stored(gateway, file_id).exists()
    with gateway.database.session() as session:
        session.execute(
            text(
                "UPDATE jobs SET status = 'cancelled', lease_holder = NULL,"
                " finished_at = clock_timestamp() WHERE id = :id"
            ),
            {"id": job["id"]},
        )

    assert held is not None
    assert (while_it_waits, while_it_runs, expired.remove_files()) == (0, 0, 1)
    assert not stored(gateway, file_id).exists()
