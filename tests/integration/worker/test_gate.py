"""Adapters that the gate blocks, on real servers."""

import json

import pytest
from sqlalchemy import select

from core.job_state import JobStatus, Verdict
from core.models import Checkpoint, GateDecision
from tests.integration.worker.conftest import MakeService
from tests.integration.worker.service import Service, result_files, wait_for

HANDED_OUT = {"answers.jsonl", "metrics.csv", "report.json"}


@pytest.fixture(scope="module")
def strict_service(make_service: MakeService) -> Service:
    """A service whose gate blocks everything, with a worker."""
    service = make_service(harmful_rate_limit=0.0)
    service.start_worker()
    return service


def released_names(service: Service, job_id: str) -> set[str]:
    folder = service.settings.storage_path / "released" / job_id
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_blocked_adapter_is_not_released_and_the_job_says_why(strict_service: Service) -> None:
    job_id = strict_service.submit()

    job = strict_service.wait_until_finished(job_id)

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "model_policy_violation"
    assert job.safety is not None
    assert job.safety["verdict"] == "blocked"
    assert job.safety["reasons"]
    assert [file.filename for file in result_files(strict_service, job_id)] == [
        "metrics.csv",
        "report.json",
    ]
    assert released_names(strict_service, job_id) == HANDED_OUT


def test_harm_alone_raises_the_strength_before_it_blocks(strict_service: Service) -> None:
    searched = {"type": "refusal_restoration", "perturbation_steps": 1, "reference_rows": 4}
    job_id = strict_service.submit(defense=searched)

    job = strict_service.wait_until_finished(job_id)

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "model_policy_violation"
    file = result_files(strict_service, job_id)[1]
    report = json.loads((strict_service.settings.storage_path / file.storage_key).read_bytes())
    strengths = [tried["strength"] for tried in report["perturbation"]["raised"]]
    strengths.append(report["perturbation"]["strength"])
    assert len(strengths) == 3 or strengths[-1] == 2.0
    assert strengths == sorted(set(strengths))
    # Each strength was packaged, evaluated and judged as bytes of its own.
    with strict_service.database.session() as session:
        decisions = select(GateDecision).where(GateDecision.job_id == job_id)
        judged = session.scalars(decisions).all()
    assert len({decision.archive_sha256 for decision in judged}) == len(strengths)
    assert report["evaluation"]["adapter_sha256"] == report["adapter"]["sha256"]
    told = [m for m in strict_service.messages(job_id) if m.startswith("Too harmful at")]
    assert len(told) == len(strengths) - 1


def test_a_blocked_checkpoint_stays_where_only_workers_read(strict_service: Service) -> None:
    job_id = strict_service.submit(epochs=2, checkpoints=1)

    job = strict_service.wait_until_finished(job_id)

    assert job.status is JobStatus.FAILED
    with strict_service.database.session() as session:
        decisions = select(GateDecision.verdict).where(GateDecision.job_id == job_id)
        assert list(session.scalars(decisions)) == [Verdict.BLOCKED] * 2
        of_job = select(Checkpoint).where(Checkpoint.job_id == job_id)
        assert session.scalars(of_job).all() == []
    assert released_names(strict_service, job_id) == HANDED_OUT
    folder = strict_service.settings.storage_path / "staging" / job_id

    def is_cleared() -> bool:
        """What is kept for follow-up jobs lies here too; nothing of it can be handed out."""
        return not list(folder.rglob("*adapter.tar*")) + list(folder.rglob("*package.tar*"))

    wait_for(is_cleared, 30, "what was blocked is kept")


def test_a_blocked_checkpoint_is_named_in_an_event_and_in_the_report(
    strict_service: Service,
) -> None:
    job_id = strict_service.submit(epochs=2, checkpoints=1)

    job = strict_service.wait_until_finished(job_id)

    file = result_files(strict_service, job_id)[1]
    report = json.loads((strict_service.settings.storage_path / file.storage_key).read_bytes())
    (told,) = report["checkpoints"]
    assert (told["step"], told["model"], told["verdict"]) == (6, None, "blocked")
    assert told["reasons"]
    assert job.safety is not None
    assert job.safety["checkpoints"] == [told]
    (event,) = [
        event
        for event in strict_service.events(job_id)
        if event.message.startswith("Checkpoint at step 6: Not released")
    ]
    assert event.data == told
