"""Sends webhooks that are due: claim, send, note what came of it.

Any number of senders may run; a claim belongs to one of them. No transaction is open while a
request is under way. A crash between sending and noting repeats the delivery under the same
`webhook-id`: at least once, by which receivers tell repetitions.
"""

import asyncio
import random
import threading
from datetime import timedelta
from typing import Final

import httpx

from core.database import Database
from core.repositories.webhook_deliveries import ClaimedDelivery, WebhookDeliveryRepository
from core.settings import Settings
from worker.periodic import heartbeat_file, run_periodically
from worker.webhook_post import PostResult, post

BATCH: Final = 16
FIRST_DELAY: Final = timedelta(seconds=5)
LONGEST_DELAY: Final = timedelta(hours=8)
MOST_DOUBLINGS: Final = 20


def retry_delay(attempt: int, jitter: float) -> timedelta:
    """Say how long to wait after this attempt.

    Args:
        attempt: From 1; each doubles the wait, up to a limit.
        jitter: From 0 to 1; takes away up to a quarter, so that failures do not repeat in step.
    """
    doubled = FIRST_DELAY * (1 << min(attempt - 1, MOST_DOUBLINGS))
    return min(doubled, LONGEST_DELAY) * (1 - jitter / 4)


class WebhookSender:
    """Sends what is due.

    Args:
        database: Holds deliveries and endpoints.
        settings: Say which addresses are allowed.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def send_due(self) -> int:
        """Send one batch, all at once; tell how many deliveries were tried."""
        with self._database.session() as session:
            claimed = WebhookDeliveryRepository(session).claim_due(BATCH)
        if claimed:
            results = asyncio.run(self._send(claimed))
            with self._database.session() as session:
                deliveries = WebhookDeliveryRepository(session)
                for delivery, result in zip(claimed, results, strict=True):
                    _note(deliveries, delivery, result)
        return len(claimed)

    async def _send(self, claimed: list[ClaimedDelivery]) -> list[PostResult]:
        # A proxy or credentials of the environment would undo the choice of the address.
        async with httpx.AsyncClient(trust_env=False, follow_redirects=False) as client:
            return await asyncio.gather(
                *(post(client, delivery, self._settings) for delivery in claimed)
            )


def _note(
    deliveries: WebhookDeliveryRepository, delivery: ClaimedDelivery, result: PostResult
) -> None:
    if result.error is None and result.status_code is not None:
        deliveries.mark_delivered(delivery, result.status_code)
        return
    delay = retry_delay(delivery.attempt, random.random())  # noqa: S311 - no secret
    deliveries.mark_refused(delivery, result.error or "", result.status_code, delay)


def run_forever(settings: Settings, stop: threading.Event) -> None:
    """Send webhooks until told to stop, through outages of Postgres."""
    database = Database.from_settings(settings)
    sender = WebhookSender(database, settings)
    try:
        run_periodically(
            sender.send_due,
            settings.webhook_interval,
            stop,
            name="webhook-sender",
            heartbeat=heartbeat_file(settings, "webhook-sender"),
        )
    finally:
        database.dispose()
