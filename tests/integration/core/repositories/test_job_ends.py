"""What the holder of a lease writes about its job, and how a job ends, on a real Postgres."""

import pytest

from core.database import Database
from core.errors import LeaseLostError
from core.job_state import JobStatus
from core.repositories.job_leases import JobLeaseRepository, Outcome
from tests.integration.core.builders import (
    Tenant,
    add_job,
    add_tenant,
    claim,
    decide,
    read_job,
    succeed,
    success,
)

CANCELLED = Outcome(JobStatus.CANCELLED)


@pytest.fixture
def tenant(clean_database: Database) -> Tenant:
    return add_tenant(clean_database)


def test_progress_replaces_what_it_names_and_keeps_the_rest(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)

    with clean_database.session() as session:
        leases = JobLeaseRepository(session)
        leases.record_progress(held.job_id, held.fence, {"step": 1}, trained_tokens=10)
        leases.record_progress(held.job_id, held.fence, {"step": 2})

    job = read_job(clean_database, held.job_id)
    assert (job.progress, job.trained_tokens) == ({"step": 2}, 10)


def test_a_finished_job_has_no_lease_and_keeps_what_came_of_it(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)

    with clean_database.session() as session:
        decide(session, held)
        succeed(session, held)

    job = read_job(clean_database, held.job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert (job.lease_holder, job.lease_expires_at, job.error) == (None, None, None)
    assert job.finished_at is not None
    assert job.result_file_ids == []


def test_a_finished_job_cannot_be_finished_otherwise(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)
    with clean_database.session() as session:
        JobLeaseRepository(session).finish(held.job_id, held.fence, CANCELLED)

    with pytest.raises(LeaseLostError), clean_database.session() as session:
        JobLeaseRepository(session).finish(held.job_id, held.fence, success(held))


def test_only_a_terminal_status_finishes_a_job(clean_database: Database, tenant: Tenant) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)

    with (
        pytest.raises(ValueError, match="does not end"),
        clean_database.session() as session,
    ):
        JobLeaseRepository(session).finish(held.job_id, held.fence, Outcome(JobStatus.QUEUED))
