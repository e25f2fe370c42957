"""Carries messages from the outbox to the broker: publish, then mark as sent.

Any number of relays may run: a message that one has locked is skipped by the others. A crash
between publishing and marking sends a wake-up twice, which costs nothing. Because a wake-up
only says that there is work, the relay keeps the number of those waiting in Redis small.
"""

import threading
from typing import Final

import redis
import structlog
from celery import Celery
from kombu.exceptions import KombuError
from kombu.exceptions import OperationalError as BrokerError

from core.database import Database
from core.errors import UnavailableError
from core.models import OutboxMessage
from core.repositories.outbox import OutboxRepository
from core.settings import Settings
from core.task_names import QUEUE, WAKE_WORKER
from worker.celery_settings import make_celery_app
from worker.periodic import heartbeat_file, run_periodically

BATCH: Final = 100
# More waiting wake-ups than workers tell nobody anything new.
MAX_WAITING_WAKE_UPS: Final = 16
SOCKET_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


class BrokerUnavailableError(UnavailableError):
    """Redis does not take messages now; they stay in the outbox."""

    code = "broker_unavailable"


class Relay:
    """Sends what the outbox holds.

    Args:
        database: Holds the outbox.
        app: Publishes to the broker.
        client: Counts the wake-ups that wait in the broker.
    """

    def __init__(self, database: Database, app: Celery, client: redis.Redis) -> None:
        self._database = database
        self._app = app
        self._client = client

    def send_pending(self) -> int:
        """Send one batch; tell how many messages were settled.

        Raises:
            BrokerUnavailableError: Redis does not answer; what was not sent waits.
        """
        failure: Exception | None = None
        settled: list[int] = []
        with self._database.session() as session:
            outbox = OutboxRepository(session)
            messages = outbox.lock_unsent(BATCH)
            if not messages:
                return 0
            try:
                self._publish(messages, settled)
            except (BrokerError, KombuError, redis.RedisError, OSError) as error:
                failure = error
            outbox.mark_sent(settled)
            outbox.mark_attempted([item.id for item in messages if item.id not in settled])
        if failure is not None:
            raise BrokerUnavailableError("The broker does not answer.") from failure
        return len(settled)

    def _publish(self, messages: list[OutboxMessage], settled: list[int]) -> None:
        room = MAX_WAITING_WAKE_UPS - int(self._client.llen(QUEUE))
        for message in messages:
            is_wake_up = message.task_name == WAKE_WORKER
            if not is_wake_up or room > 0:
                self._app.send_task(message.task_name, kwargs=message.payload, queue=QUEUE)
                room -= is_wake_up
            settled.append(message.id)


def run_forever(settings: Settings, stop: threading.Event) -> None:
    """Relay messages until told to stop, through outages of Redis and Postgres."""
    database = Database.from_settings(settings)
    if settings.redis_url is None:
        msg = "no broker address: set TUNEWARD_REDIS_URL or start the embedded stack"
        raise ValueError(msg)
    client = redis.Redis.from_url(
        settings.redis_url, socket_timeout=SOCKET_SECONDS, socket_connect_timeout=SOCKET_SECONDS
    )
    app = make_celery_app(settings)
    relay = Relay(database, app, client)
    try:
        run_periodically(
            relay.send_pending,
            settings.relay_interval,
            stop,
            name="relay",
            heartbeat=heartbeat_file(settings, "relay"),
        )
    finally:
        client.close()
        app.close()
        database.dispose()
