"""Sending messages in step with the database: write now, let the relay send after the commit."""

from sqlalchemy.orm import Session

from core.models import OutboxMessage
from core.models.base import Json
from core.repositories.outbox import OutboxRepository
from core.task_names import WAKE_WORKER


def enqueue(session: Session, task_name: str, payload: Json | None = None) -> OutboxMessage:
    """Have a task sent if, and only if, the session's transaction commits."""
    return OutboxRepository(session).add(task_name, payload or {})


def wake_worker(session: Session) -> OutboxMessage:
    """Have a worker told that there is work; it finds out itself which."""
    return enqueue(session, WAKE_WORKER)
