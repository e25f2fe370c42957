"""An adapter that the gate blocks, on real servers."""

from core.job_state import JobStatus
from tests.integration.worker.conftest import MakeService
from tests.integration.worker.service import Service, result_files


def released_names(service: Service, job_id: str) -> set[str]:
    folder = service.settings.storage_path / "released" / job_id
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_a_blocked_adapter_is_not_released_and_the_job_says_why(
    make_service: MakeService,
) -> None:
    service = make_service(harmful_rate_limit=0.0)
    service.start_worker()
    job_id = service.submit()

    job = service.wait_until_finished(job_id)

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "model_policy_violation"
    assert job.safety is not None
    assert job.safety["verdict"] == "blocked"
    assert job.safety["reasons"]
    assert [file.filename for file in result_files(service, job_id)] == [
        "metrics.csv",
        "report.json",
    ]
    assert released_names(service, job_id) == {"metrics.csv", "report.json"}
