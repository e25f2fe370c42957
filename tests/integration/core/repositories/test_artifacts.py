import pytest

from core.database import Database
from core.repositories.artifacts import ArtifactRepository
from core.storage.protocol import StoredObject, staging_key
from tests.integration.core.builders import Tenant, add_job, add_tenant, claim


@pytest.fixture
def tenant(clean_database: Database) -> Tenant:
    return add_tenant(clean_database)


def test_what_is_published_can_be_found_by_its_name(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)
    stored = StoredObject(staging_key(held.job_id, held.fence, "report.json"), "0" * 64, 5)

    with clean_database.session() as session:
        ArtifactRepository(session).publish(held.job_id, held.fence, "report.json", stored)

    with clean_database.session() as session:
        artifacts = ArtifactRepository(session)
        found = artifacts.find_for_worker(held.job_id, "report.json")
        assert artifacts.list_for_worker(held.job_id) == {"report.json": found}
        assert artifacts.find_for_worker(held.job_id, "other.json") is None
    assert found is not None
    assert (found.storage_key, found.sha256, found.bytes) == (stored.key, stored.sha256, 5)
    assert found.fence == held.fence


def test_a_second_publication_replaces_the_first(clean_database: Database, tenant: Tenant) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)

    with clean_database.session() as session:
        artifacts = ArtifactRepository(session)
        first = artifacts.publish(held.job_id, 1, "a", StoredObject("staging/a/1", "0" * 64, 5))
        second = artifacts.publish(held.job_id, 1, "a", StoredObject("staging/a/2", "1" * 64, 6))

    assert first.id == second.id
    assert (second.storage_key, second.sha256, second.bytes) == ("staging/a/2", "1" * 64, 6)
