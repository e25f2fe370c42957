"""Reads and writes of `outbox`."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import CursorResult, delete, func, select, update
from sqlalchemy.orm import Session

from core.models import OutboxMessage
from core.models.base import Json
from core.repositories.clock import database_now


class OutboxRepository:
    """Messages on their way out."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, task_name: str, payload: Json) -> OutboxMessage:
        """Write a message that leaves when, and only if, this transaction commits."""
        message = OutboxMessage(task_name=task_name, payload=payload)
        self._session.add(message)
        self._session.flush()
        return message

    def lock_unsent(self, limit: int = 100) -> list[OutboxMessage]:
        """Take the oldest unsent messages; another relay skips them until this one commits."""
        statement = (
            select(OutboxMessage)
            .where(OutboxMessage.sent_at.is_(None))
            .order_by(OutboxMessage.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return list(self._session.scalars(statement))

    def mark_sent(self, message_ids: Sequence[int]) -> None:
        """Note that the broker has the messages."""
        self._set(message_ids, sent_at=database_now(), attempts=OutboxMessage.attempts + 1)

    def mark_attempted(self, message_ids: Sequence[int]) -> None:
        """Note that sending failed; the messages stay unsent."""
        self._set(message_ids, attempts=OutboxMessage.attempts + 1)

    def count_unsent(self, task_name: str | None = None) -> int:
        """Count what still waits for a relay."""
        statement = (
            select(func.count()).select_from(OutboxMessage).where(OutboxMessage.sent_at.is_(None))
        )
        if task_name is not None:
            statement = statement.where(OutboxMessage.task_name == task_name)
        return self._session.scalar(statement) or 0

    def delete_sent(self, older_than: timedelta) -> int:
        """Forget messages that left long ago; say how many."""
        result = self._session.execute(
            delete(OutboxMessage)
            .where(OutboxMessage.sent_at < database_now() - older_than)
            .execution_options(synchronize_session=False)
        )
        return result.rowcount if isinstance(result, CursorResult) else 0

    def _set(self, message_ids: Sequence[int], **values: object) -> None:
        self._session.execute(
            update(OutboxMessage)
            .where(OutboxMessage.id.in_(message_ids))
            .values(**values)
            .execution_options(synchronize_session=False)
        )
