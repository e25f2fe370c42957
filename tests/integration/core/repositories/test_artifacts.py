import pytest

from core.database import Database
from core.errors import LeaseLostError
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


def test_another_version_withdraws_what_was_made_of_the_one_before(
    clean_database: Database, tenant: Tenant
) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)
    with clean_database.session() as session:
        artifacts = ArtifactRepository(session)
        for name in ("strength", "package", "training"):
            stored = StoredObject(f"staging/a/{name}", "0" * 64, 5)
            artifacts.publish(held.job_id, held.fence, name, stored)

    with clean_database.session() as session:
        newer = StoredObject("staging/a/1.strength", "1" * 64, 6)
        ArtifactRepository(session).supersede(
            held.job_id, held.fence, "strength", newer, ["package", "never published"]
        )

    with clean_database.session() as session:
        found = ArtifactRepository(session).list_for_worker(held.job_id)
    assert {name: one.storage_key for name, one in found.items()} == {
        "strength": "staging/a/1.strength",
        "training": "staging/a/training",
    }


def test_who_has_lost_the_job_withdraws_nothing(clean_database: Database, tenant: Tenant) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)
    stored = StoredObject("staging/a/package", "0" * 64, 5)
    with clean_database.session() as session:
        ArtifactRepository(session).publish(held.job_id, held.fence, "package", stored)

    with clean_database.session() as session, pytest.raises(LeaseLostError):
        ArtifactRepository(session).supersede(
            held.job_id, held.fence + 1, "strength", stored, ["package"]
        )

    with clean_database.session() as session:
        assert set(ArtifactRepository(session).list_for_worker(held.job_id)) == {"package"}
