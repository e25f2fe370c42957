"""Claims, leases and fences, on a real Postgres and by its clock."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from core.database import Database
from core.errors import LeaseLostError
from core.job_state import JobStatus, Verdict
from core.models import Artifact, GateDecision, Job, JobEvent
from core.repositories.artifacts import ArtifactRepository
from core.repositories.job_events import JobEventRepository
from core.repositories.job_leases import Claim, HeartbeatResult, JobLeaseRepository, Outcome
from core.repositories.jobs import JobRepository
from core.repositories.outbox import OutboxRepository
from core.storage.protocol import StoredObject
from tests.integration.core.builders import (
    LEASE_SECONDS,
    Tenant,
    add_job,
    add_tenant,
    claim,
    decide,
    failure,
    read_job,
    succeed,
)

MAX_ATTEMPTS = 3
CANCELLED = Outcome(JobStatus.CANCELLED)
STORED = StoredObject("staging/ftjob-1/1/report.json", "0" * 64, 1)


@pytest.fixture
def tenant(clean_database: Database) -> Tenant:
    return add_tenant(clean_database)


def expire(database: Database, job_id: str) -> None:
    with database.session() as session:
        session.execute(
            text("UPDATE jobs SET lease_expires_at = now() - interval '1 second' WHERE id = :id"),
            {"id": job_id},
        )


def take_back(database: Database) -> list[Job]:
    with database.session() as session:
        return JobLeaseRepository(session).take_back_expired(MAX_ATTEMPTS)


def heartbeat(database: Database, held: Claim) -> HeartbeatResult:
    with database.session() as session:
        return JobLeaseRepository(session).heartbeat(held.job_id, held.fence, LEASE_SECONDS)


def messages(database: Database, job_id: str) -> list[str]:
    with database.session() as session:
        return [event.message for event in JobEventRepository(session).list_for_worker(job_id)]


def unsent(database: Database) -> int:
    with database.session() as session:
        return OutboxRepository(session).count_unsent()


def snapshot(database: Database, job_id: str) -> dict[str, object]:
    with database.session() as session:
        row = session.execute(text("SELECT * FROM jobs WHERE id = :id"), {"id": job_id}).one()
        counts = [
            session.scalar(select(func.count()).select_from(table))
            for table in (Artifact, GateDecision, JobEvent)
        ]
        return {**row._mapping, "counts": counts}


def test_nothing_to_claim_gives_nothing(clean_database: Database) -> None:
    with clean_database.session() as session:
        assert JobLeaseRepository(session).claim_next("worker-1", LEASE_SECONDS) is None


def test_a_claim_takes_the_job_counts_the_attempt_and_raises_the_fence(
    clean_database: Database, tenant: Tenant
) -> None:
    created = add_job(clean_database, tenant)

    held = claim(clean_database)

    job = read_job(clean_database, created.id)
    assert (held.job_id, held.project_id) == (created.id, tenant.project_id)
    assert (job.status, job.fence, job.attempt) == (JobStatus.RUNNING, 1, 1)
    assert (held.fence, held.attempt, held.holder) == (1, 1, "worker-1")
    assert job.lease_expires_at is not None
    assert job.started_at is not None
    assert job.lease_expires_at - job.started_at == timedelta(seconds=LEASE_SECONDS)


def test_the_urgent_come_first_then_the_oldest(clean_database: Database, tenant: Tenant) -> None:
    first = add_job(clean_database, tenant)
    second = add_job(clean_database, tenant)
    urgent = add_job(clean_database, tenant, priority=5)

    order = [claim(clean_database).job_id for _ in range(3)]

    assert order == [urgent.id, first.id, second.id]


@pytest.mark.parametrize(
    "change", ["cancel_requested_at = now()", "not_before = now() + interval '1 hour'"]
)
def test_a_job_that_must_not_run_is_not_claimed(
    clean_database: Database, tenant: Tenant, change: str
) -> None:
    job = add_job(clean_database, tenant)
    with clean_database.session() as session:
        session.execute(text(f"UPDATE jobs SET {change} WHERE id = :id"), {"id": job.id})  # noqa: S608

    with clean_database.session() as session:
        leases = JobLeaseRepository(session)
        assert leases.claim_next("worker-1", LEASE_SECONDS) is None
        assert leases.count_claimable() == 0


def test_a_job_still_being_validated_is_not_claimed(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant, status=JobStatus.VALIDATING_FILES)

    with clean_database.session() as session:
        assert JobLeaseRepository(session).claim_next("worker-1", LEASE_SECONDS) is None


def test_a_claim_waits_for_the_one_before_it_and_takes_another_job(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    add_job(clean_database, tenant)

    with ThreadPoolExecutor(1) as pool:
        with clean_database.session() as session:
            first = JobLeaseRepository(session).claim_next("worker-1", LEASE_SECONDS)
            other = pool.submit(claim, clean_database, "worker-2")
            time.sleep(0.2)
            had_to_wait = not other.done()
        second = other.result()

    assert had_to_wait
    assert first is not None
    assert first.job_id != second.job_id


def test_many_workers_at_once_claim_every_job_exactly_once(
    clean_database: Database, tenant: Tenant
) -> None:
    created = {add_job(clean_database, tenant).id for _ in range(20)}
    start = threading.Barrier(8)

    def claim_all(holder: str) -> list[str]:
        start.wait()
        claimed: list[str] = []
        while True:
            with clean_database.session() as session:
                held = JobLeaseRepository(session).claim_next(holder, LEASE_SECONDS)
            if held is None:
                return claimed
            claimed.append(held.job_id)

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(claim_all, [f"worker-{number}" for number in range(8)]))

    claimed = [job_id for result in results for job_id in result]
    assert sorted(claimed) == sorted(created)


def test_a_heartbeat_prolongs_the_lease(clean_database: Database, tenant: Tenant) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database, seconds=1)

    result = heartbeat(clean_database, held)

    job = read_job(clean_database, held.job_id)
    assert result == HeartbeatResult(alive=True, cancel_requested=False)
    assert job.lease_expires_at is not None
    assert job.lease_expires_at > held.lease_expires_at + timedelta(seconds=LEASE_SECONDS / 2)


def test_a_heartbeat_learns_of_a_wish_to_cancel(clean_database: Database, tenant: Tenant) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)
    with clean_database.session() as session:
        job = JobRepository(session).request_cancel(tenant.project_id, held.job_id)

    assert job.status is JobStatus.RUNNING
    assert heartbeat(clean_database, held) == HeartbeatResult(alive=True, cancel_requested=True)


def test_a_heartbeat_after_losing_the_job_says_so(clean_database: Database, tenant: Tenant) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)
    expire(clean_database, held.job_id)
    take_back(clean_database)

    assert not heartbeat(clean_database, held).alive


def test_an_expired_lease_is_taken_back_once_and_a_worker_is_woken(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)
    expire(clean_database, held.job_id)

    taken = take_back(clean_database)
    again = take_back(clean_database)

    job = read_job(clean_database, held.job_id)
    assert [job.id for job in taken] == [held.job_id]
    assert again == []
    assert (job.status, job.lease_holder, job.attempt) == (JobStatus.QUEUED, None, 1)
    assert job.fence > held.fence
    assert unsent(clean_database) == 1
    assert messages(clean_database, job.id) == ["The worker was lost; the job waits again."]


def test_a_living_lease_is_left_alone(clean_database: Database, tenant: Tenant) -> None:
    add_job(clean_database, tenant)
    claim(clean_database)

    assert take_back(clean_database) == []


@pytest.mark.parametrize(("minutes", "lost"), [(0, 0), (10, 1)])
def test_a_running_job_without_any_lease_is_lost_after_a_grace(
    clean_database: Database, tenant: Tenant, minutes: int, lost: int
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)
    with clean_database.session() as session:
        session.execute(
            text(
                "UPDATE jobs SET lease_expires_at = NULL,"
                " started_at = now() - make_interval(mins => :minutes) WHERE id = :id"
            ),
            {"id": held.job_id, "minutes": minutes},
        )

    assert len(take_back(clean_database)) == lost


def test_too_many_lost_workers_fail_the_job(clean_database: Database, tenant: Tenant) -> None:
    created = add_job(clean_database, tenant)
    for _ in range(MAX_ATTEMPTS):
        held = claim(clean_database)
        expire(clean_database, held.job_id)
        take_back(clean_database)

    job = read_job(clean_database, created.id)
    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert (job.error["code"], job.error["param"]) == ("worker_lost", None)
    assert "3 attempts" in messages(clean_database, job.id)[-1]
    assert unsent(clean_database) == MAX_ATTEMPTS - 1


def test_a_lost_job_that_was_to_be_cancelled_is_cancelled(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)
    with clean_database.session() as session:
        JobRepository(session).request_cancel(tenant.project_id, held.job_id)
    expire(clean_database, held.job_id)

    (job,) = take_back(clean_database)

    assert job.status is JobStatus.CANCELLED
    assert job.finished_at is not None
    assert unsent(clean_database) == 0


def stale_writes() -> dict[str, Callable[[Session, Claim], object]]:
    return {
        "progress": lambda session, held: JobLeaseRepository(session).record_progress(
            held.job_id, held.fence, {"step": 1}
        ),
        "release": lambda session, held: JobLeaseRepository(session).release(
            held.job_id, held.fence
        ),
        "success": succeed,
        "failure": lambda session, held: JobLeaseRepository(session).finish(
            held.job_id, held.fence, failure()
        ),
        "cancellation": lambda session, held: JobLeaseRepository(session).finish(
            held.job_id, held.fence, CANCELLED
        ),
        "event": lambda session, held: JobEventRepository(session).append(
            held.job_id, fence=held.fence, message="I am still here."
        ),
        "artifact": lambda session, held: ArtifactRepository(session).publish(
            held.job_id, held.fence, "report.json", STORED
        ),
        "decision": lambda session, held: decide(session, held, Verdict.RELEASED),
    }


@pytest.mark.parametrize("write", stale_writes())
@pytest.mark.parametrize("successor", ["none", "another worker", "a finished one"])
def test_whoever_lost_the_lease_can_write_nothing(
    clean_database: Database, tenant: Tenant, write: str, successor: str
) -> None:
    add_job(clean_database, tenant)
    stale = claim(clean_database)
    expire(clean_database, stale.job_id)
    take_back(clean_database)
    if successor != "none":
        fresh = claim(clean_database, "worker-2")
        if successor == "a finished one":
            with clean_database.session() as session:
                JobLeaseRepository(session).finish(fresh.job_id, fresh.fence, failure())
    before = snapshot(clean_database, stale.job_id)

    with pytest.raises(LeaseLostError), clean_database.session() as session:
        stale_writes()[write](session, stale)

    assert snapshot(clean_database, stale.job_id) == before


def test_a_lease_cannot_be_taken_back_between_the_check_and_the_write_of_an_event(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)
    expire(clean_database, held.job_id)

    with clean_database.session() as session:
        JobEventRepository(session).append(held.job_id, fence=held.fence, message="Step 1.")
        taken_meanwhile = take_back(clean_database)
    taken_afterwards = take_back(clean_database)

    assert taken_meanwhile == []
    assert len(taken_afterwards) == 1


def test_a_released_job_waits_again_without_a_counted_attempt(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)

    with clean_database.session() as session:
        JobLeaseRepository(session).release(held.job_id, held.fence)

    job = read_job(clean_database, held.job_id)
    again = claim(clean_database, "worker-2")
    assert (job.status, job.attempt, job.lease_expires_at) == (JobStatus.QUEUED, 0, None)
    assert (again.attempt, again.fence) == (1, held.fence + 1)
    assert unsent(clean_database) == 1


def test_a_job_can_be_put_off_with_its_attempt_counted(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)

    with clean_database.session() as session:
        job = JobLeaseRepository(session).release(
            held.job_id, held.fence, delay=timedelta(hours=1), count_attempt=True
        )

    assert job.attempt == 1
    with clean_database.session() as session:
        assert JobLeaseRepository(session).claim_next("worker-2", LEASE_SECONDS) is None


def test_a_job_released_after_a_wish_to_cancel_is_cancelled_by_the_reconciler(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)
    with clean_database.session() as session:
        JobRepository(session).request_cancel(tenant.project_id, held.job_id)
        JobLeaseRepository(session).release(held.job_id, held.fence)

    with clean_database.session() as session:
        (job,) = JobLeaseRepository(session).cancel_queued()

    assert (job.id, job.status) == (held.job_id, JobStatus.CANCELLED)
    assert messages(clean_database, job.id) == ["Job cancelled."]


@pytest.mark.parametrize("outcome", [failure(), CANCELLED])
def test_finishing_again_after_a_lost_answer_changes_nothing(
    clean_database: Database, tenant: Tenant, outcome: Outcome
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)
    with clean_database.session() as session:
        JobLeaseRepository(session).finish(held.job_id, held.fence, outcome)
    before = snapshot(clean_database, held.job_id)

    with clean_database.session() as session:
        job = JobLeaseRepository(session).finish(held.job_id, held.fence, outcome)

    assert job.status is outcome.status
    assert snapshot(clean_database, held.job_id) == before


def test_the_holder_is_known_by_its_fence(clean_database: Database, tenant: Tenant) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)

    with clean_database.session() as session:
        leases = JobLeaseRepository(session)
        assert leases.is_held(held.job_id, held.fence)
        assert not leases.is_held(held.job_id, held.fence + 1)
        assert leases.get_for_worker("ftjob-unknown") is None
