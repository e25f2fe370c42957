"""The relay and the reconciler on a real database and a real broker, without any worker."""

from collections.abc import Iterator

import pytest
import redis
from sqlalchemy import text

from core.database import Database
from core.outbox import enqueue, wake_worker
from core.repositories.outbox import OutboxRepository
from core.settings import Settings
from core.task_names import QUEUE, WAKE_WORKER
from worker.celery_settings import make_celery_app
from worker.reconciler import Reconciler
from worker.relay import MAX_WAITING_WAKE_UPS, BrokerUnavailableError, Relay


@pytest.fixture
def clean_database(database: Database) -> Database:
    with database.session() as session:
        session.execute(text("TRUNCATE outbox RESTART IDENTITY"))
    return database


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as opened:
        opened.delete(QUEUE)
        yield opened
        opened.delete(QUEUE)


@pytest.fixture
def relay(clean_database: Database, client: redis.Redis, redis_url: str) -> Iterator[Relay]:
    app = make_celery_app(Settings(redis_url=redis_url))
    yield Relay(clean_database, app, client)
    app.close()


def unsent(database: Database) -> int:
    with database.session() as session:
        return OutboxRepository(session).count_unsent()


def add_wake_ups(database: Database, count: int) -> None:
    with database.session() as session:
        for _ in range(count):
            wake_worker(session)


def test_a_message_leaves_once_its_transaction_has_committed(
    relay: Relay, clean_database: Database, client: redis.Redis
) -> None:
    add_wake_ups(clean_database, 1)

    assert relay.send_pending() == 1
    assert relay.send_pending() == 0

    assert client.llen(QUEUE) == 1
    assert unsent(clean_database) == 0


def test_no_more_wake_ups_wait_than_make_sense(
    relay: Relay, clean_database: Database, client: redis.Redis
) -> None:
    add_wake_ups(clean_database, MAX_WAITING_WAKE_UPS + 5)

    relay.send_pending()

    assert client.llen(QUEUE) == MAX_WAITING_WAKE_UPS
    assert unsent(clean_database) == 0


def test_another_message_is_sent_however_many_wake_ups_wait(
    relay: Relay, clean_database: Database, client: redis.Redis
) -> None:
    add_wake_ups(clean_database, MAX_WAITING_WAKE_UPS)
    relay.send_pending()
    with clean_database.session() as session:
        enqueue(session, "tuneward.other", {"id": "1"})

    relay.send_pending()

    assert client.llen(QUEUE) == MAX_WAITING_WAKE_UPS + 1


def test_a_broker_that_is_away_costs_no_message(
    clean_database: Database, client: redis.Redis
) -> None:
    add_wake_ups(clean_database, 1)
    nowhere = "unix:///nowhere/redis.sock"
    app = make_celery_app(Settings(redis_url=nowhere))
    with redis.Redis.from_url(nowhere) as away:
        relay = Relay(clean_database, app, away)

        with pytest.raises(BrokerUnavailableError):
            relay.send_pending()

    assert unsent(clean_database) == 1
    assert client.llen(QUEUE) == 0


def test_a_quiet_house_needs_no_reconciling(clean_database: Database) -> None:
    result = Reconciler(clean_database, max_attempts=3).reconcile()

    assert (result.taken_back, result.cancelled, result.woken) == (0, 0, 0)
    with clean_database.session() as session:
        assert OutboxRepository(session).count_unsent(WAKE_WORKER) == 0
