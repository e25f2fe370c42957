"""A new model is announced in the transaction that ends its job, or not at all."""

from datetime import UTC, datetime
from unittest.mock import Mock

import pytest

from core.database import Database
from core.errors import LeaseLostError
from core.job_state import JobStatus
from core.repositories.job_events import JobEventRepository
from core.repositories.job_leases import Claim, JobLeaseRepository, Outcome
from core.stages import ArtifactName
from core.storage.protocol import StoredObject
from tests.integration.core.builders import (
    ARCHIVE_SHA256,
    add_job,
    add_tenant,
    claim,
    decide,
    read_job,
)
from worker.journal import JobJournal
from worker.publication import JobPublisher

ANNOUNCEMENT = "New fine-tuned model created: "


@pytest.fixture
def held(database: Database) -> Claim:
    add_job(database, add_tenant(database, f"acme-{datetime.now(UTC).timestamp()}"))
    return claim(database)


def succeed(database: Database, held: Claim) -> None:
    job = read_job(database, held.job_id)
    stored = StoredObject(f"released/{held.job_id}/adapter.tar", ARCHIVE_SHA256, 7)
    publisher = JobPublisher(job, JobJournal(database, held, Mock()), Mock(), Mock())
    publisher.succeed({ArtifactName.ARCHIVE: stored}, {})


def announcements(database: Database, job_id: str) -> list[str]:
    with database.session() as session:
        events = JobEventRepository(session).list_for_worker(job_id)
    return [event.message for event in events if event.message.startswith(ANNOUNCEMENT)]


def test_a_finished_job_announces_its_model_once(database: Database, held: Claim) -> None:
    with database.session() as session:
        decide(session, held)

    succeed(database, held)

    job = read_job(database, held.job_id)
    assert job.status is JobStatus.SUCCEEDED
    assert announcements(database, held.job_id) == [f"{ANNOUNCEMENT}{job.fine_tuned_model}"]


def test_a_job_that_was_cancelled_first_announces_nothing(database: Database, held: Claim) -> None:
    with database.session() as session:
        decide(session, held)
        leases = JobLeaseRepository(session)
        leases.finish(held.job_id, held.fence, Outcome(JobStatus.CANCELLED))

    with pytest.raises(LeaseLostError):
        succeed(database, held)

    assert read_job(database, held.job_id).status is JobStatus.CANCELLED
    assert announcements(database, held.job_id) == []


def test_an_end_that_the_database_refuses_announces_nothing(
    database: Database, held: Claim
) -> None:
    # Nothing was decided about the archive, so the trigger lets no success through.
    with pytest.raises(Exception, match="gate"):
        succeed(database, held)

    assert read_job(database, held.job_id).status is JobStatus.RUNNING
    assert announcements(database, held.job_id) == []
