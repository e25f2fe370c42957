"""Fair sharing of workers: in which order projects get them, on a real Postgres."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from core.database import Database
from core.repositories.job_leases import Claim, JobLeaseRepository
from core.repositories.job_queue import JobQueueRepository
from core.repositories.projects import ProjectRepository
from core.spec_versions import NEWEST_VERSION
from tests.integration.core.builders import (
    LEASE_SECONDS,
    Tenant,
    add_job,
    add_tenant,
    claim,
    failure,
)


def try_to_claim(database: Database, running_limit: int | None = None) -> Claim | None:
    with database.session() as session:
        return JobLeaseRepository(session).claim_next(
            "worker-1", LEASE_SECONDS, running_limit=running_limit
        )


def places(
    database: Database, job_ids: list[str], running_limit: int | None = None
) -> dict[str, int]:
    with database.session() as session:
        return JobQueueRepository(session).positions(job_ids, running_limit=running_limit)


def count_claimable(database: Database, running_limit: int | None = None) -> int:
    with database.session() as session:
        return JobLeaseRepository(session).count_claimable(running_limit=running_limit)


def limit_running(database: Database, tenant: Tenant, limit: int | None) -> None:
    with database.session() as session:
        ProjectRepository(session).update(tenant.project_id, {"running_jobs_limit": limit})


@pytest.fixture
def acme(clean_database: Database) -> Tenant:
    return add_tenant(clean_database, "acme")


@pytest.fixture
def rival(clean_database: Database) -> Tenant:
    return add_tenant(clean_database, "rival")


def test_a_late_project_gets_the_next_worker_before_a_busy_one(
    clean_database: Database, acme: Tenant, rival: Tenant
) -> None:
    first, second, third = (add_job(clean_database, acme).id for _ in range(3))
    late = add_job(clean_database, rival).id

    claimed = [claim(clean_database).job_id for _ in range(4)]

    assert claimed == [first, late, second, third]


def test_a_job_of_a_newer_release_is_left_to_workers_that_can_read_it(
    clean_database: Database, acme: Tenant
) -> None:
    newer = {"model": "tiny", "version": NEWEST_VERSION + 1}
    unreadable = add_job(clean_database, acme, spec=newer, priority=9).id
    readable = add_job(clean_database, acme, spec=newer | {"version": NEWEST_VERSION}).id

    before = places(clean_database, [unreadable, readable])
    claimed = claim(clean_database).job_id

    assert before == {readable: 1, unreadable: 2}
    assert claimed == readable
    assert try_to_claim(clean_database) is None
    assert count_claimable(clean_database) == 0


def test_a_higher_priority_comes_before_a_fair_share(
    clean_database: Database, acme: Tenant, rival: Tenant
) -> None:
    urgent = [add_job(clean_database, acme, priority=5).id for _ in range(2)]
    late = add_job(clean_database, rival).id

    assert [claim(clean_database).job_id for _ in range(3)] == [*urgent, late]


def test_a_project_at_its_limit_is_passed_over_and_blocks_nobody(
    clean_database: Database, acme: Tenant, rival: Tenant
) -> None:
    limit_running(clean_database, acme, 1)
    add_job(clean_database, acme)
    add_job(clean_database, acme, priority=9)
    late = add_job(clean_database, rival).id

    held, other, none = (try_to_claim(clean_database) for _ in range(3))

    assert held is not None
    assert other is not None
    assert (held.project_id, other.job_id, none) == (acme.project_id, late, None)
    assert count_claimable(clean_database) == 0
    with clean_database.session() as session:
        JobLeaseRepository(session).finish(held.job_id, held.fence, failure())
    assert count_claimable(clean_database) == 1
    assert claim(clean_database).project_id == acme.project_id


def test_a_limit_of_its_own_comes_before_the_one_for_all(
    clean_database: Database, acme: Tenant, rival: Tenant
) -> None:
    limit_running(clean_database, rival, 2)
    for tenant in (acme, acme, rival, rival, rival):
        add_job(clean_database, tenant)

    claimed = [try_to_claim(clean_database, running_limit=1) for _ in range(5)]

    projects = [held.project_id for held in claimed if held is not None]
    assert projects == [acme.project_id, rival.project_id, rival.project_id]
    assert count_claimable(clean_database, running_limit=1) == 0


def test_claims_at_the_same_moment_never_pass_a_limit(
    clean_database: Database, acme: Tenant, rival: Tenant
) -> None:
    limit_running(clean_database, acme, 2)
    for _ in range(8):
        add_job(clean_database, acme)
        add_job(clean_database, rival)
    start = threading.Barrier(8)

    def claim_once(_: int) -> Claim | None:
        start.wait()
        return try_to_claim(clean_database)

    with ThreadPoolExecutor(8) as pool:
        claimed = [held for held in pool.map(claim_once, range(8)) if held is not None]

    projects = [held.project_id for held in claimed]
    assert len({held.job_id for held in claimed}) == 8
    assert projects.count(acme.project_id) == 2
    assert projects.count(rival.project_id) == 6


@pytest.mark.parametrize("seed", range(12))
def test_places_are_the_order_in_which_jobs_are_then_claimed(
    clean_database: Database, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311 - a test that can be repeated
    tenants = [add_tenant(clean_database, f"project-{number}") for number in range(4)]
    for tenant in tenants:
        limit_running(clean_database, tenant, chance.choice([None, None, 1, 2, 4]))
    waiting = [
        add_job(clean_database, chance.choice(tenants), priority=chance.choice([0, 0, 0, 1])).id
        for _ in range(14)
    ]
    for _ in range(2):
        waiting.remove(claim(clean_database).job_id)
    for job_id in waiting[:2]:
        with clean_database.session() as session:
            session.execute(
                text("UPDATE jobs SET not_before = now() + interval '1 hour' WHERE id = :id"),
                {"id": job_id},
            )

    expected = places(clean_database, waiting, running_limit=3)
    claimed = []
    while (held := try_to_claim(clean_database, running_limit=3)) is not None:
        claimed.append(held.job_id)

    assert sorted(expected.values()) == list(range(1, 13))
    assert [expected[job_id] for job_id in claimed] == list(range(1, len(claimed) + 1))
    assert claimed
