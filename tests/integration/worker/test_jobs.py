"""Jobs on real servers, with a real worker process, to their end."""

from core.job_state import JobStatus
from tests.integration.worker.service import Service


def test_a_job_runs_to_its_end(service: Service) -> None:
    service.start_worker()
    job_id = service.submit()

    job = service.wait_until_finished(job_id)

    assert job.status is JobStatus.SUCCEEDED, (job.error, service.messages(job_id))
