"""Follow-up jobs as a client creates them, on real servers with a real worker, to their end."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sqlalchemy import text
from starlette.testclient import TestClient

from api.main import create_app
from core.job_state import JobStatus
from core.models import Job
from core.provision import create_key
from core.repositories.artifacts import ArtifactRepository
from core.stages import ArtifactName
from tests.integration.worker.service import Service, result_files, wait_for
from worker.archive import extract_archive

JOBS = "/v1/fine_tuning/jobs"
WEIGHTS = "adapter_model.safetensors"
RESTORATION = {
    "type": "refusal_restoration",
    "perturbation_steps": 2,
    "reference_rows": 4,
    "perturbation_strength": 0.5,
}


def guarded(strength: float = 0.5) -> dict[str, Any]:
    return {
        "type": "panacea",
        "guard_interval": 2,
        "post_fine_tuning": {**RESTORATION, "perturbation_strength": strength},
    }


@pytest.fixture(scope="module")
def client(module_service: Service) -> Iterator[TestClient]:
    """A client of a gateway beside the workers, with a key of the project of their jobs."""
    with module_service.database.session() as session:
        key = create_key(session)
    app = create_app(module_service.settings)
    with TestClient(app, headers={"Authorization": f"Bearer {key.text}"}) as opened:
        yield opened


def ask(client: TestClient, path: str, body: dict[str, Any]) -> str:
    response = client.post(f"{JOBS}/{path}", json=body)
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def finished(service: Service, job_id: str, status: JobStatus = JobStatus.SUCCEEDED) -> Job:
    job = service.wait_until_finished(job_id)
    assert job.status is status, (job.error, service.messages(job_id))
    return job


def weights(service: Service, job_id: str, folder: Path) -> bytes:
    _, archive, _ = result_files(service, job_id)
    extract_archive(service.settings.storage_path / archive.storage_key, folder)
    return (folder / WEIGHTS).read_bytes()


def report_of(service: Service, job_id: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(
        (service.settings.storage_path / result_files(service, job_id)[-1].storage_key).read_bytes()
    )
    return report


def kept(service: Service, job_id: str, name: ArtifactName) -> dict[str, torch.Tensor]:
    with service.database.session() as session:
        artifact = ArtifactRepository(session).find_for_worker(job_id, name)
    assert artifact is not None
    return load_file(service.settings.storage_path / artifact.storage_key)


def test_another_strength_gives_the_bytes_of_a_job_that_had_fixed_it(
    worked_service: Service, client: TestClient, tmp_path: Path
) -> None:
    service = worked_service
    origin = finished(service, service.submit(defense=guarded(0.5)))

    job_id = ask(client, f"{origin.id}/strength", {"strength": 0.8})

    job = finished(service, job_id)
    fixed = finished(service, service.submit(defense=guarded(0.8)))
    made = weights(service, job_id, tmp_path / "made")
    assert made == weights(service, fixed.id, tmp_path / "fixed")
    assert made != weights(service, origin.id, tmp_path / "origin")
    trained = kept(service, origin.id, ArtifactName.TRAINED_ADAPTER)
    move = kept(service, origin.id, ArtifactName.PERTURBATION)
    found = load_file(tmp_path / "made" / WEIGHTS)
    assert found.keys() == trained.keys() == move.keys()
    for name, tensor in found.items():
        expected = (trained[name].double() + 0.8 * move[name].double()).float()
        assert torch.equal(tensor, expected)
    assert job.trained_tokens == 0
    assert job.fine_tuned_model != origin.fine_tuned_model
    report = report_of(service, job_id)
    assert report["perturbation"]["strength"] == 0.8
    assert report["perturbation"]["norm"] == report_of(service, origin.id)["perturbation"]["norm"]
    assert report["follow_up"]["job_id"] == origin.id
    assert report["evaluation"]["adapter_sha256"] == hashlib.sha256(made).hexdigest()
    assert "Fine-tuning started." not in service.messages(job_id)


def test_strength_zero_is_the_trained_adapter_and_a_follow_up_can_be_followed_up(
    worked_service: Service, client: TestClient, tmp_path: Path
) -> None:
    service = worked_service
    origin = finished(service, service.submit(defense=guarded(), epochs=2, checkpoints=1))

    plain = finished(service, ask(client, f"{origin.id}/strength", {"strength": 0}))
    back = finished(service, ask(client, f"{plain.id}/strength", {"strength": 0.5}))

    weights(service, plain.id, tmp_path / "plain")
    found = load_file(tmp_path / "plain" / WEIGHTS)
    trained = kept(service, origin.id, ArtifactName.TRAINED_ADAPTER)
    assert found.keys() == trained.keys()
    assert all(found[name].numpy().tobytes() == trained[name].numpy().tobytes() for name in trained)
    restored = weights(service, back.id, tmp_path / "back")
    assert restored == weights(service, origin.id, tmp_path / "origin")
    # The checkpoints stay the origin's.
    assert report_of(service, plain.id)["checkpoints"] == []


def test_judging_again_gives_the_same_figures_for_the_same_prompts(
    worked_service: Service, client: TestClient, tiny_rows: dict[str, str], tmp_path: Path
) -> None:
    service = worked_service
    origin = finished(service, service.submit(defense=guarded()))
    # As many of the operator's prompts as are asked, and the same ones.
    lines = Path(tiny_rows["safety_evaluation_prompts"].removeprefix("path:")).read_text("utf-8")
    prompts = [lines.splitlines()[index] for index in (0, 1, 3, 4)]
    uploaded = client.post(
        "/v1/files",
        data={"purpose": "user_data"},
        files={"file": ("prompts.jsonl", "\n".join(prompts).encode())},
    ).json()

    job_id = ask(client, f"{origin.id}/safety/rerun", {"prompts": uploaded["id"]})

    job = finished(service, job_id)
    before, after = report_of(service, origin.id), report_of(service, job_id)
    assert after["evaluation"] == before["evaluation"]
    assert after["decision"] == before["decision"]
    assert after["adapter"] == before["adapter"]
    own = after["prompts_evaluation"]
    assert (own["file_id"], own["prompts"]) == (uploaded["id"], 4)
    assert own["models"].keys() == after["evaluation"]["models"].keys()
    for name, results in own["models"].items():
        assert results["safety"] == after["evaluation"]["models"][name]["safety"]
        first_source = after["harm_sources"]["sources"][0]["models"][name]
        assert results["by_category"] == first_source["by_category"]
    assert "prompts_evaluation" not in before
    assert job.archive_sha256 != origin.archive_sha256  # another report is in it
    assert service.job(origin.id).archive_sha256 == origin.archive_sha256
    assert service.job(origin.id).safety == origin.safety
    assert weights(service, job_id, tmp_path / "again") == weights(
        service, origin.id, tmp_path / "first"
    )


def test_the_gate_judges_a_follow_up_and_a_blocked_job_can_have_one(
    service: Service, client: TestClient
) -> None:
    """The same origin, under a limit that nothing meets and then under one that all meet."""
    service.start_worker(TUNEWARD_HARMFUL_RATE_LIMIT="0")
    origin = finished(service, service.submit(defense=guarded()), JobStatus.FAILED)

    blocked = ask(client, f"{origin.id}/strength", {"strength": 2})
    error = finished(service, blocked, JobStatus.FAILED).error
    service.stop_workers()
    service.start_worker()
    released = finished(service, ask(client, f"{blocked}/safety/rerun", {}))

    assert error is not None
    assert error["code"] == "model_policy_violation"
    assert client.get(f"{JOBS}/{blocked}/adapter").status_code == 400
    assert client.get(f"{JOBS}/{released.id}/adapter").status_code == 200
    assert released.safety is not None
    assert released.safety["perturbation_strength"] == 2
    assert service.job(origin.id).status is JobStatus.FAILED


def test_what_was_asked_for_is_analysed_and_reported(
    worked_service: Service, client: TestClient
) -> None:
    service = worked_service
    origin = finished(service, service.submit(defense=guarded()))
    wanted = {"include": ["layer_ablation", "tamper_curve"]}

    job = finished(service, ask(client, f"{origin.id}/safety/rerun", wanted))

    report = report_of(service, job.id)
    layers = report["layer_affinity"]
    assert [each["layer"] for each in layers["ablation"]["layers"]] == [0, 1]
    assert layers["strength"] == report["perturbation"]["strength"]
    points = report["tamper_curve"]["curves"]["guarded"]
    assert [point["steps"] for point in points] == [0, 1, 5, 10, 25, 50, 100]
    usual = report_of(service, origin.id)
    assert "tamper_curve" not in usual
    assert usual["layer_affinity"]["layers"] == layers["layers"]


def test_own_prompts_do_not_open_the_gate(service: Service, client: TestClient) -> None:
    service.start_worker(TUNEWARD_HARMFUL_RATE_LIMIT="0")
    origin = finished(service, service.submit(defense=guarded()), JobStatus.FAILED)
    uploaded = client.post(
        "/v1/files",
        data={"purpose": "user_data"},
        files={"file": ("prompts.jsonl", b'{"prompt": "say 1"}')},
    ).json()

    job = ask(client, f"{origin.id}/safety/rerun", {"prompts": uploaded["id"]})

    error = finished(service, job, JobStatus.FAILED).error
    assert error is not None
    assert error["code"] == "model_policy_violation"
    assert report_of(service, job)["prompts_evaluation"]["prompts"] == 1


@pytest.mark.parametrize(
    ("gone", "code"),
    [
        (
            "DELETE FROM artifacts WHERE job_id = :job AND name = 'strength.json'",
            "origin_unavailable",
        ),
        ("UPDATE files SET deleted_at = now() WHERE id = :prompts", "invalid_prompts"),
    ],
)
def test_what_is_gone_when_the_job_begins_fails_it(
    service: Service, client: TestClient, gone: str, code: str
) -> None:
    service.start_worker()
    origin = finished(service, service.submit(defense=guarded()))
    service.stop_workers()
    uploaded = client.post(
        "/v1/files",
        data={"purpose": "user_data"},
        files={"file": ("prompts.jsonl", b'{"prompt": "say 1"}')},
    ).json()["id"]
    job_id = ask(client, f"{origin.id}/safety/rerun", {"prompts": uploaded})
    with service.database.session() as session:
        values = {"job": origin.id, "prompts": uploaded}
        named = {name: value for name, value in values.items() if f":{name}" in gone}
        session.execute(text(gone), named)

    service.start_worker()

    error = finished(service, job_id, JobStatus.FAILED).error
    assert error is not None
    assert error["code"] == code


@pytest.mark.long
def test_a_follow_up_whose_worker_dies_takes_nothing_over_twice(
    service: Service, client: TestClient, tmp_path: Path
) -> None:
    worker = service.start_worker()
    origin = finished(service, service.submit(defense=guarded()))
    job_id = ask(client, f"{origin.id}/safety/rerun", {})
    begun = "Packaging the guarded adapter."
    wait_for(lambda: begun in service.messages(job_id), 60, lambda: str(service.messages(job_id)))
    worker.kill()
    service.start_worker()

    job = finished(service, job_id)

    assert job.attempt == 2
    assert service.messages(job_id).count("Taking over what training has left.") == 1
    again = weights(service, job_id, tmp_path / "again")
    assert again == weights(service, origin.id, tmp_path / "first")


def test_a_follow_up_shows_where_it_stands_like_any_job(
    service: Service, client: TestClient
) -> None:
    service.start_worker()
    origin = finished(service, service.submit(defense=guarded()))
    service.stop_workers()

    job_id = ask(client, f"{origin.id}/strength", {"strength": 1})

    waiting = client.get(f"{JOBS}/{job_id}").json()
    assert waiting["queue"]["position"] == 1
    assert waiting["estimate"]["minutes"]["expected"] > 0
    assert waiting["estimated_finish"] is not None
    service.start_worker()
    wait_for(
        lambda: client.get(f"{JOBS}/{job_id}").json()["progress"] is not None, 60, "no progress"
    )
    finished(service, job_id)
    progress = client.get(f"{JOBS}/{job_id}").json()["progress"]
    assert (progress["stage"], progress["percent"]) == ("release", 100.0)
    assert (progress["step"], progress["total_steps"]) == (0, 0)
