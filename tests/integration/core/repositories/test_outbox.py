from datetime import timedelta

from sqlalchemy import text

from core.database import Database
from core.outbox import enqueue, wake_worker
from core.repositories.outbox import OutboxRepository
from core.task_names import WAKE_WORKER


def fill(database: Database, count: int) -> list[int]:
    with database.session() as session:
        return [wake_worker(session).id for _ in range(count)]


def test_a_message_keeps_its_name_and_payload(clean_database: Database) -> None:
    with clean_database.session() as session:
        enqueue(session, "tuneward.other", {"id": "x"})
        wake_worker(session)

    with clean_database.session() as session:
        first, second = OutboxRepository(session).lock_unsent()
    assert (first.task_name, first.payload) == ("tuneward.other", {"id": "x"})
    assert (second.task_name, second.payload) == (WAKE_WORKER, {})


def test_messages_leave_in_the_order_in_which_they_were_written(clean_database: Database) -> None:
    ids = fill(clean_database, 3)

    with clean_database.session() as session:
        locked = OutboxRepository(session).lock_unsent(limit=2)

    assert [message.id for message in locked] == ids[:2]


def test_two_relays_never_hold_the_same_message(clean_database: Database) -> None:
    fill(clean_database, 3)

    with clean_database.session() as one, clean_database.session() as two:
        first = {message.id for message in OutboxRepository(one).lock_unsent(limit=2)}
        second = {message.id for message in OutboxRepository(two).lock_unsent(limit=2)}

    assert (len(first), len(second)) == (2, 1)
    assert not first & second


def test_a_sent_message_is_not_taken_again(clean_database: Database) -> None:
    ids = fill(clean_database, 2)

    with clean_database.session() as session:
        OutboxRepository(session).mark_sent(ids[:1])

    with clean_database.session() as session:
        outbox = OutboxRepository(session)
        assert [message.id for message in outbox.lock_unsent()] == ids[1:]
        assert outbox.count_unsent(WAKE_WORKER) == 1
        assert outbox.count_unsent("tuneward.other") == 0


def test_a_message_that_could_not_be_sent_stays_and_counts_the_attempt(
    clean_database: Database,
) -> None:
    ids = fill(clean_database, 1)

    with clean_database.session() as session:
        OutboxRepository(session).mark_attempted(ids)

    with clean_database.session() as session:
        (message,) = OutboxRepository(session).lock_unsent()
    assert message.attempts == 1


def test_a_relay_that_dies_between_sending_and_marking_sends_twice(
    clean_database: Database,
) -> None:
    ids = fill(clean_database, 1)

    with clean_database.session() as session:
        OutboxRepository(session).lock_unsent()
        session.rollback()

    with clean_database.session() as session:
        assert [message.id for message in OutboxRepository(session).lock_unsent()] == ids


def test_only_old_sent_messages_are_forgotten(clean_database: Database) -> None:
    ids = fill(clean_database, 3)
    with clean_database.session() as session:
        OutboxRepository(session).mark_sent(ids[:2])
        session.execute(
            text("UPDATE outbox SET sent_at = sent_at - interval '2 days' WHERE id = :id"),
            {"id": ids[0]},
        )

    with clean_database.session() as session:
        forgotten = OutboxRepository(session).delete_sent(timedelta(days=1))
        left = session.scalars(text("SELECT id FROM outbox ORDER BY id")).all()

    assert (forgotten, left) == (1, ids[1:])
