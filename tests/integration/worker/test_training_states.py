"""Saved states on their way to storage, on a real database: whole, fenced, one at a time."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from core.database import Database
from core.errors import LeaseLostError
from core.repositories.job_leases import Claim, JobLeaseRepository
from core.stages import ArtifactName
from core.storage.local import LocalStorage
from core.storage.protocol import WORKER_PREFIXES
from tests.integration.core.builders import add_job, add_tenant, claim
from worker.artifact_exchange import ArtifactExchange
from worker.cancellation import StopSignals
from worker.journal import JobJournal
from worker.leftovers import Leftovers
from worker.workspace import Workspace

STATE = ArtifactName.TRAINING_STATE


@pytest.fixture
def database(fresh_database_url: str) -> Iterator[Database]:
    """A database of this test alone."""
    opened = Database(fresh_database_url)
    add_job(opened, add_tenant(opened))
    yield opened
    opened.dispose()


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "storage", WORKER_PREFIXES)


class Attempt:
    """One worker's claim, workspace and way to storage."""

    def __init__(self, database: Database, storage: LocalStorage, folder: Path) -> None:
        self.held: Claim = claim(database)
        signals = StopSignals(
            shutdown=threading.Event(),
            self_fence_after=timedelta(minutes=5),
            deadline=timedelta(minutes=5),
        )
        self.workspace = Workspace.create(folder, self.held.job_id, self.held.fence)
        journal = JobJournal(database, self.held, signals)
        self.exchange = ArtifactExchange(storage, journal, self.workspace)

    def save(self, step: int, *, told: bool = True) -> None:
        self.workspace.output(STATE).write_bytes(b"state %d" % step)
        if told:
            self.exchange.publish_state(STATE, step)

    def fetched(self) -> bytes | None:
        self.exchange.fetch_state(STATE)
        path = self.workspace.artifact(STATE)
        return path.read_bytes() if path.exists() else None


def take_back(database: Database) -> None:
    with database.session() as session:
        session.execute(text("UPDATE jobs SET lease_expires_at = now() - interval '1 second'"))
        JobLeaseRepository(session).take_back_expired(99)


def test_the_newest_state_is_fetched_by_the_next_attempt_and_the_older_one_is_gone(
    database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    first = Attempt(database, storage, tmp_path)
    for step in (1, 2):
        first.save(step)
    take_back(database)

    second = Attempt(database, storage, tmp_path)

    assert second.fetched() == b"state 2"
    assert len(storage.list_keys("staging")) == 1


def test_a_state_that_is_newer_than_its_announcement_is_published_once(
    database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    attempt = Attempt(database, storage, tmp_path)
    attempt.save(1, told=False)
    attempt.save(2, told=False)

    for step in (1, 2):
        attempt.exchange.publish_state(STATE, step)

    assert attempt.fetched() == b"state 2"


def test_a_stale_worker_replaces_no_state_of_its_successor(
    database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    stale = Attempt(database, storage, tmp_path)
    stale.save(1)
    take_back(database)
    successor = Attempt(database, storage, tmp_path)
    successor.save(1)

    with pytest.raises(LeaseLostError):
        stale.save(9)
    take_back(database)
    third = Attempt(database, storage, tmp_path)
    Leftovers(database, storage, tmp_path / "none", timedelta(days=30)).remove()

    assert third.fetched() == b"state 1"
    (key,) = storage.list_keys("staging")
    assert key.split("/")[2] == str(successor.held.fence)


def test_a_worker_that_dies_between_storing_and_publishing_leaves_the_older_state_whole(
    database: Database, storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Attempt(database, storage, tmp_path)
    first.save(1)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(JobJournal, "publish", die)
    with pytest.raises(KeyboardInterrupt):
        first.save(2)
    take_back(database)

    assert Attempt(database, storage, tmp_path).fetched() == b"state 1"


def test_a_state_that_storage_gives_back_changed_is_not_used(
    database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    attempt = Attempt(database, storage, tmp_path)
    attempt.save(1)
    (key,) = storage.list_keys("staging")
    storage.put_bytes(key, b"other bytes")

    assert attempt.fetched() is None


def test_without_a_saved_state_there_is_none(
    database: Database, storage: LocalStorage, tmp_path: Path
) -> None:
    assert Attempt(database, storage, tmp_path).fetched() is None
