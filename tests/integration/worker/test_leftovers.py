"""Users' rows do not outlive their job, on a real database and a real disk."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from core.database import Database
from core.follow_up import TAKEN_OVER
from core.job_state import JobStatus
from core.models import FileKind
from core.repositories.artifacts import ArtifactRepository
from core.repositories.files import FileRepository
from core.repositories.job_leases import Claim, JobLeaseRepository, Outcome
from core.repositories.jobs import JobRepository
from core.storage.local import LocalStorage
from core.storage.protocol import STAGING, WORKER_PREFIXES, released_key, staging_key
from tests.integration.core.builders import add_job, add_tenant, claim, failure, new_job
from worker.leftovers import Leftovers
from worker.reconciler import Reconciler

ROWS = b"rows"
RETENTION = timedelta(days=30)


@pytest.fixture
def database(fresh_database_url: str) -> Iterator[Database]:
    """A database of this test alone."""
    opened = Database(fresh_database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "storage", WORKER_PREFIXES)


@pytest.fixture
def workspaces(tmp_path: Path) -> Path:
    return tmp_path / "workspaces"


@pytest.fixture
def leftovers(database: Database, storage: LocalStorage, workspaces: Path) -> Leftovers:
    return Leftovers(database, storage, workspaces, RETENTION)


@pytest.fixture
def held(database: Database) -> Claim:
    """A running job."""
    add_job(database, add_tenant(database))
    return claim(database)


def publish(database: Database, storage: LocalStorage, held: Claim, name: str) -> str:
    stored = storage.put_bytes(staging_key(held.job_id, held.fence, name), ROWS)
    with database.session() as session:
        ArtifactRepository(session).publish(held.job_id, held.fence, name, stored)
    return stored.key


def finish(database: Database, held: Claim, outcome: Outcome) -> None:
    with database.session() as session:
        JobLeaseRepository(session).finish(held.job_id, held.fence, outcome)


def work_in(workspaces: Path, held: Claim) -> Path:
    folder = workspaces / held.job_id / str(held.fence)
    (folder / "inputs").mkdir(parents=True)
    (folder / "inputs" / "training.jsonl").write_bytes(ROWS)
    return folder


def retry(database: Database, held: Claim) -> Claim:
    with database.session() as session:
        JobLeaseRepository(session).release(held.job_id, held.fence, count_attempt=True)
    return claim(database)


def test_of_a_finished_job_nothing_stays_but_its_files(
    database: Database, storage: LocalStorage, leftovers: Leftovers, workspaces: Path, held: Claim
) -> None:
    publish(database, storage, held, "training_rows.jsonl")
    publish(database, storage, held, "adapter.tar")
    work_in(workspaces, held)
    report = storage.put_bytes(released_key(held.job_id, held.fence, "report.json"), b"{}")
    unlisted = storage.put_bytes(released_key(held.job_id, held.fence, "adapter.tar"), b"tar")
    with database.session() as session:
        FileRepository(session).add_result(
            held.project_id,
            job_id=held.job_id,
            kind=FileKind.REPORT,
            filename="report.json",
            stored=report,
        )
    finish(database, held, failure("model_policy_violation"))

    leftovers.remove()

    assert storage.list_keys(STAGING) == []
    assert storage.exists(report.key)
    assert not storage.exists(unlisted.key)
    assert list(workspaces.iterdir()) == []
    with database.session() as session:
        assert ArtifactRepository(session).list_for_worker(held.job_id) == {}


def judged_job(database: Database, storage: LocalStorage, held: Claim) -> list[str]:
    """Have a job end blocked with all its artifacts; give the keys of what may be taken over."""
    kept = [publish(database, storage, held, name) for name in TAKEN_OVER]
    publish(database, storage, held, "training_rows.jsonl")
    publish(database, storage, held, "adapter.tar")
    storage.put_bytes(staging_key(held.job_id, held.fence, "unpublished"), ROWS)
    finish(
        database, held, replace(failure("model_policy_violation"), safety={"verdict": "blocked"})
    )
    return sorted(kept)


def test_of_a_judged_job_its_training_stays_without_the_rows(
    database: Database, storage: LocalStorage, leftovers: Leftovers, held: Claim
) -> None:
    kept = judged_job(database, storage, held)

    removed = leftovers.remove()

    assert storage.list_keys(STAGING) == kept
    with database.session() as session:
        artifacts = ArtifactRepository(session).list_for_worker(held.job_id)
    assert set(artifacts) == set(TAKEN_OVER)
    assert (removed, leftovers.remove()) == (1, 0)


def test_when_its_time_is_over_the_training_goes_too(
    database: Database, storage: LocalStorage, workspaces: Path, held: Claim
) -> None:
    judged_job(database, storage, held)

    Leftovers(database, storage, workspaces, timedelta(0)).remove()

    assert storage.list_keys(STAGING) == []
    with database.session() as session:
        assert ArtifactRepository(session).list_for_worker(held.job_id) == {}


def test_a_follow_up_job_that_is_not_finished_keeps_the_training(
    database: Database, storage: LocalStorage, workspaces: Path
) -> None:
    tenant = add_tenant(database)
    add_job(database, tenant)
    held = claim(database)
    kept = judged_job(database, storage, held)
    spec = {"model": "tiny", "version": 2, "follow_up": {"job_id": held.job_id}}
    add_job(database, tenant, spec=spec)
    leftovers = Leftovers(database, storage, workspaces, timedelta(0))

    leftovers.remove()
    assert storage.list_keys(STAGING) == kept
    finish(database, claim(database), Outcome(JobStatus.CANCELLED))
    leftovers.remove()

    assert storage.list_keys(STAGING) == []


def test_a_follow_up_that_is_being_created_is_waited_for(
    database: Database, storage: LocalStorage, workspaces: Path
) -> None:
    tenant = add_tenant(database)
    add_job(database, tenant)
    held = claim(database)
    kept = judged_job(database, storage, held)
    spec = {"model": "tiny", "version": 2, "follow_up": {"job_id": held.job_id}}
    leftovers = Leftovers(database, storage, workspaces, timedelta(0))

    with ThreadPoolExecutor(1) as threads:
        with database.session() as session:
            jobs = JobRepository(session)
            jobs.get(tenant.project_id, held.job_id, lock=True)
            removing = threads.submit(leftovers.remove)
            with pytest.raises(TimeoutError):
                removing.result(timeout=1)
            jobs.add(tenant.project_id, new_job(tenant, spec=spec))
        removing.result(timeout=10)

    assert storage.list_keys(STAGING) == kept


def test_the_training_goes_with_the_model(
    database: Database, storage: LocalStorage, leftovers: Leftovers, held: Claim
) -> None:
    judged_job(database, storage, held)
    with database.session() as session:
        JobRepository(session).mark_model_deleted(held.project_id, held.job_id)

    leftovers.remove()

    assert storage.list_keys(STAGING) == []


@pytest.mark.parametrize("status", [JobStatus.FAILED, JobStatus.CANCELLED])
def test_the_reconciler_removes_what_its_rule_says(
    database: Database,
    storage: LocalStorage,
    leftovers: Leftovers,
    held: Claim,
    status: JobStatus,
) -> None:
    publish(database, storage, held, "training_rows.jsonl")
    finish(
        database, held, failure() if status is JobStatus.FAILED else Outcome(JobStatus.CANCELLED)
    )

    result = Reconciler(database, 3, leftovers).reconcile()

    assert result.cleaned == 1
    assert storage.list_keys(STAGING) == []


def test_a_live_job_keeps_its_artifacts_and_loses_what_dead_attempts_left(
    database: Database, storage: LocalStorage, leftovers: Leftovers, workspaces: Path, held: Claim
) -> None:
    published = publish(database, storage, held, "training_rows.jsonl")
    orphan = storage.put_bytes(staging_key(held.job_id, held.fence, "screening.json"), ROWS)
    old = work_in(workspaces, held)
    current = retry(database, held)
    being_written = storage.put_bytes(staging_key(held.job_id, current.fence, "x.json"), ROWS)
    new = work_in(workspaces, current)

    leftovers.remove()

    assert storage.list_keys(STAGING) == sorted([published, being_written.key])
    assert not storage.exists(orphan.key)
    assert not old.exists()
    assert new.exists()


def test_a_job_of_another_database_is_left_alone(
    storage: LocalStorage, leftovers: Leftovers, workspaces: Path
) -> None:
    kept = storage.put_bytes(staging_key("ftjob-other", 1, "training_rows.jsonl"), ROWS)
    (workspaces / "ftjob-other" / "1").mkdir(parents=True)

    assert leftovers.remove() == 0
    assert storage.exists(kept.key)
    assert (workspaces / "ftjob-other" / "1").is_dir()
