"""Puts right what crashes leave behind; every rule is one short transaction.

- A running job whose lease has expired goes back to the queue, or ends if it has had its attempts.
- A queued job whose owner asked to stop it is cancelled.
- While jobs wait, workers are woken again: a message can be lost, a waiting job can not.
- Messages that left long ago are forgotten, and so are old deliveries of webhooks.
- What finished jobs and dead attempts leave in storage and on disk is removed.
- Files past their lifetime and unfinished uploads are removed.
"""

import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog

from core.database import Database
from core.outbox import wake_worker
from core.repositories.job_leases import JobLeaseRepository
from core.repositories.outbox import OutboxRepository
from core.repositories.webhook_deliveries import WebhookDeliveryRepository
from core.settings import Settings
from core.storage.local import LocalStorage
from core.storage.protocol import WORKER_PREFIXES
from core.task_names import WAKE_WORKER
from worker.expired import Expired
from worker.leftovers import Leftovers
from worker.periodic import heartbeat_file, run_periodically

MAX_WAKE_UPS: Final = 8
KEEP_SENT: Final = timedelta(days=1)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Reconciliation:
    """What one round did."""

    taken_back: int
    cancelled: int
    woken: int
    cleaned: int = 0
    expired: int = 0
    forgotten: int = 0


class Reconciler:
    """Applies the rules above.

    Args:
        database: Holds the jobs.
        max_attempts: A job that was lost as often is not tried again.
        leftovers: Removes what jobs leave behind; None where storage is out of reach.
        expired: Removes what is past its lifetime; None likewise.
        running_limit: Running jobs of a project without a limit of its own; None is no limit.
        keep_deliveries: How long a webhook's delivery is kept once it is not repeated any more.
    """

    def __init__(
        self,
        database: Database,
        max_attempts: int,
        leftovers: Leftovers | None = None,
        expired: Expired | None = None,
        *,
        running_limit: int | None = None,
        keep_deliveries: timedelta = timedelta(days=30),
    ) -> None:
        self._database = database
        self._max_attempts = max_attempts
        self._running_limit = running_limit
        self._keep_deliveries = keep_deliveries
        self._leftovers = leftovers
        self._expired = expired

    def reconcile(self) -> Reconciliation:
        """Do one round."""
        with self._database.session() as session:
            taken_back = JobLeaseRepository(session).take_back_expired(self._max_attempts)
        with self._database.session() as session:
            cancelled = JobLeaseRepository(session).cancel_queued()
        with self._database.session() as session:
            outbox = OutboxRepository(session)
            waiting = JobLeaseRepository(session).count_claimable(running_limit=self._running_limit)
            missing = max(0, min(waiting, MAX_WAKE_UPS) - outbox.count_unsent(WAKE_WORKER))
            for _ in range(missing):
                wake_worker(session)
            outbox.delete_sent(KEEP_SENT)
        with self._database.session() as session:
            forgotten = WebhookDeliveryRepository(session).delete_old(self._keep_deliveries)
        cleaned = 0 if self._leftovers is None else self._leftovers.try_to_remove()
        expired = 0 if self._expired is None else self._expired.try_to_remove()
        result = Reconciliation(
            len(taken_back), len(cancelled), missing, cleaned, expired, forgotten
        )
        if result != Reconciliation(0, 0, 0):
            _log.info(
                "reconciled",
                taken_back=result.taken_back,
                cancelled=result.cancelled,
                woken=result.woken,
                cleaned=result.cleaned,
                expired=result.expired,
                forgotten=result.forgotten,
            )
        return result


def run_forever(settings: Settings, stop: threading.Event) -> None:
    """Reconcile until told to stop, through outages of Postgres."""
    database = Database.from_settings(settings)
    leftovers, expired = None, None
    if settings.storage_path.is_dir():  # on another machine than the workers' it may not be
        storage = LocalStorage(settings.storage_path, prefixes=WORKER_PREFIXES)
        leftovers = Leftovers(database, storage, settings.workspaces, settings.training_retention)
        expired = Expired(database, storage)
    reconciler = Reconciler(
        database,
        settings.max_attempts,
        leftovers,
        expired,
        running_limit=settings.project_running_jobs,
        keep_deliveries=settings.webhook_delivery_retention,
    )
    try:
        run_periodically(
            reconciler.reconcile,
            settings.reconciler_interval,
            stop,
            name="reconciler",
            heartbeat=heartbeat_file(settings, "reconciler"),
        )
    finally:
        database.dispose()
