import pytest

from core.database import Database
from core.job_state import Verdict
from core.repositories.gate_decisions import GateDecisionRepository
from tests.integration.core.builders import ARCHIVE_SHA256, Tenant, add_job, add_tenant, claim

OTHER_SHA256 = "0" * 64
POLICY = {"harmful_rate_limit": 0.2}


@pytest.fixture
def tenant(clean_database: Database) -> Tenant:
    return add_tenant(clean_database)


def test_only_the_judged_bytes_of_ones_own_job_are_released(
    clean_database: Database, tenant: Tenant
) -> None:
    stranger = add_tenant(clean_database, "stranger")
    add_job(clean_database, tenant)
    held = claim(clean_database)

    with clean_database.session() as session:
        decisions = GateDecisionRepository(session)
        decisions.record(
            held.job_id,
            held.fence,
            archive_sha256=ARCHIVE_SHA256,
            verdict=Verdict.RELEASED,
            policy=POLICY,
            reasons=[],
        )

        assert decisions.is_released(tenant.project_id, held.job_id, ARCHIVE_SHA256)
        assert not decisions.is_released(tenant.project_id, held.job_id, OTHER_SHA256)
        assert not decisions.is_released(stranger.project_id, held.job_id, ARCHIVE_SHA256)
        assert not decisions.is_released(tenant.project_id, "ftjob-other", ARCHIVE_SHA256)


def test_the_first_verdict_on_the_same_bytes_stands(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)

    with clean_database.session() as session:
        decisions = GateDecisionRepository(session)
        first, last = (
            decisions.record(
                held.job_id,
                held.fence,
                archive_sha256=ARCHIVE_SHA256,
                verdict=verdict,
                policy=POLICY,
                reasons=["too many harmful answers"],
            )
            for verdict in (Verdict.BLOCKED, Verdict.RELEASED)
        )
        released = decisions.is_released(tenant.project_id, held.job_id, ARCHIVE_SHA256)

    assert last is first
    assert last.verdict is Verdict.BLOCKED
    assert last.reasons == ["too many harmful answers"]
    assert not released
