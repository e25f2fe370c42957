"""Claim, run, repeat: what one woken worker does until nothing is left to claim."""

import os
import secrets
import socket
import threading

import structlog

from core.database import Database
from core.errors import LeaseLostError, UnavailableError
from core.job_estimates import JobEstimator
from core.model_registry import ModelRegistry
from core.repositories.job_leases import Claim, JobLeaseRepository
from core.settings import Settings
from core.storage.local import LocalStorage
from core.storage.protocol import WORKER_PREFIXES, ArtifactStorage
from worker.cancellation import StopSignals
from worker.conversions import remove_dead_conversions
from worker.device_locks import is_device_held
from worker.errors import DeviceBusyError
from worker.journal import JobJournal
from worker.lease import LeaseKeeper
from worker.leftovers import Leftovers
from worker.options import TrainerOptions
from worker.pipeline.context import GatePolicy
from worker.pipeline.outcome import settle
from worker.pipeline.runner import JobRunner
from worker.supervisor import TrainerSupervisor
from worker.workspace import Workspace

_log = structlog.get_logger(__name__)


class WorkerSession:
    """The working life of one pool child.

    Args:
        settings: The operator's settings.
        database: Holds jobs and leases.
        storage: Holds artifacts.
        supervisor: Owns the warm trainer.
        shutdown: Set when this process must go.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: ArtifactStorage,
        supervisor: TrainerSupervisor,
        shutdown: threading.Event,
    ) -> None:
        self._settings = settings
        self._database = database
        self._storage = storage
        self._supervisor = supervisor
        self._shutdown = shutdown
        self._estimator = JobEstimator(ModelRegistry.load(settings), settings)
        self._leftovers = Leftovers(
            database, storage, settings.workspaces, settings.training_retention
        )
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    @classmethod
    def open(cls, settings: Settings, shutdown: threading.Event) -> "WorkerSession":
        """Open a session on the configured database and storage."""
        supervisor = TrainerSupervisor(
            TrainerOptions.from_settings(settings),
            settings.home / "logs",
            stall_timeout=settings.stall_timeout,
        )
        storage = LocalStorage(settings.storage_path, prefixes=WORKER_PREFIXES)
        session = cls(settings, Database.from_settings(settings), storage, supervisor, shutdown)
        # A predecessor that was killed has left its workspace, with the rows in it.
        session.remove_leftovers()
        return session

    def run_until_idle(self) -> int:
        """Run claimable jobs one after the other; tell how many were claimed."""
        count = 0
        while not self._shutdown.is_set():
            if self._device_is_elsewhere():
                _log.info("device_held_by_another_worker")
                break
            claim = self._claim()
            if claim is None:
                break
            count += 1
            with structlog.contextvars.bound_contextvars(
                job_id=claim.job_id, fence=claim.fence, attempt=claim.attempt
            ):
                may_go_on = self._work_on(claim)
            if not may_go_on:
                break
        if count:
            self.remove_leftovers()
        return count

    def remove_leftovers(self) -> None:
        """Remove what finished jobs, dead attempts and killed trainers have left."""
        self._leftovers.try_to_remove()
        try:
            remove_dead_conversions(self._settings.base_model_cache)
        except OSError:
            _log.warning("dead_conversions_remain", exc_info=True)

    def close(self) -> None:
        """Let go of the trainer and the database."""
        self._supervisor.stop()
        self._database.dispose()

    def _device_is_elsewhere(self) -> bool:
        """Whether another worker's trainer holds the GPU; a trainer of our own would hold it."""
        return (
            self._settings.device != "cpu"
            and self._supervisor.trainer_pid is None
            and is_device_held(self._settings.home / "locks")
        )

    def _claim(self) -> Claim | None:
        try:
            with self._database.session() as session:
                return JobLeaseRepository(session).claim_next(
                    self.holder,
                    self._settings.lease_duration.total_seconds(),
                    running_limit=self._settings.project_running_jobs,
                )
        except UnavailableError:
            # The reconciler sends another wake-up for every job that waits.
            _log.warning("claim_failed")
            return None

    def _work_on(self, claim: Claim) -> bool:
        """Run one job; tell whether this worker is fit for another one now."""
        settings = self._settings
        signals = StopSignals(
            shutdown=self._shutdown,
            self_fence_after=settings.self_fence_after,
            deadline=settings.job_deadline,
        )
        journal = JobJournal(self._database, claim, signals)
        keeper = LeaseKeeper(
            self._database,
            claim,
            signals,
            interval=settings.heartbeat_interval,
            lease_duration=settings.lease_duration,
        )
        _log.info("job_claimed")
        try:
            with keeper:
                try:
                    self._run(journal, signals)
                except Exception as error:  # noqa: BLE001  (the boundary of one job)
                    settle(error, journal, settings.max_attempts)
                    # Whoever holds the device takes the jobs; we look again when woken.
                    return not isinstance(error, DeviceBusyError)
        except LeaseLostError:
            self._supervisor.stop()
            _log.warning("job_given_up")
        finally:
            self._supervisor.finish_job()
        return True

    def _run(self, journal: JobJournal, signals: StopSignals) -> None:
        claim = journal.claim
        workspace = Workspace.create(self._settings.workspaces, claim.job_id, claim.fence)
        try:
            JobRunner(
                journal=journal,
                storage=self._storage,
                supervisor=self._supervisor,
                signals=signals,
                workspace=workspace,
                policy=gate_policy(self._settings),
                estimator=self._estimator,
            ).run()
        finally:
            workspace.remove()


def gate_policy(settings: Settings) -> GatePolicy:
    """Take the gate's limits from the settings."""
    return GatePolicy(
        harmful_rate_limit=settings.harmful_rate_limit,
        incoherence_increase_limit=settings.incoherence_increase_limit,
        task_accuracy_drop_limit=settings.task_accuracy_drop_limit,
    )
