import pytest

from core.database import Database
from core.errors import InvalidRequestError, NotFoundError
from core.models import EventLevel, EventType
from core.repositories.job_events import JobEventRepository
from tests.integration.core.builders import Tenant, add_job, add_tenant, claim


@pytest.fixture
def tenant(clean_database: Database) -> Tenant:
    return add_tenant(clean_database)


def append(database: Database, job_id: str, message: str) -> str:
    with database.session() as session:
        return JobEventRepository(session).append(job_id, message=message).id


def test_an_event_keeps_its_facts(clean_database: Database, tenant: Tenant) -> None:
    add_job(clean_database, tenant)
    held = claim(clean_database)

    with clean_database.session() as session:
        JobEventRepository(session).append(
            held.job_id,
            fence=held.fence,
            message="Step 1/2: training loss=0.50",
            event_type=EventType.METRICS,
            data={"step": 1, "train_loss": 0.5},
        )

    with clean_database.session() as session:
        (event,) = JobEventRepository(session).list_for_worker(held.job_id)
    assert event.id.startswith("ftevent-")
    assert (event.level, event.type, event.fence) == (EventLevel.INFO, EventType.METRICS, 1)
    assert event.data == {"step": 1, "train_loss": 0.5}


def test_events_come_newest_first_and_after_walks_back(
    clean_database: Database, tenant: Tenant
) -> None:
    job = add_job(clean_database, tenant)
    ids = [append(clean_database, job.id, f"line {number}") for number in range(5)]

    with clean_database.session() as session:
        events = JobEventRepository(session)
        first = events.list_page(tenant.project_id, job.id, limit=2)
        second = events.list_page(tenant.project_id, job.id, after=ids[3], limit=3)

    assert [event.id for event in first.items] == [ids[4], ids[3]]
    assert first.has_more
    assert [event.id for event in second.items] == [ids[2], ids[1], ids[0]]
    assert not second.has_more


def test_the_event_of_another_job_is_no_place_to_go_on_from(
    clean_database: Database, tenant: Tenant
) -> None:
    job, other = add_job(clean_database, tenant), add_job(clean_database, tenant)
    elsewhere = append(clean_database, other.id, "elsewhere")

    with pytest.raises(InvalidRequestError) as caught, clean_database.session() as session:
        JobEventRepository(session).list_page(tenant.project_id, job.id, after=elsewhere)

    assert caught.value.param == "after"


def test_another_project_sees_no_events(clean_database: Database, tenant: Tenant) -> None:
    stranger = add_tenant(clean_database, "stranger")
    job = add_job(clean_database, tenant)
    append(clean_database, job.id, "private")

    with clean_database.session() as session:
        page = JobEventRepository(session).list_page(stranger.project_id, job.id)

    assert page.items == []


def test_an_unknown_job_has_no_history(clean_database: Database) -> None:
    with pytest.raises(NotFoundError):
        append(clean_database, "ftjob-unknown", "nowhere")
