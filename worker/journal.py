"""Everything a running job writes into the database, each write under the fence of its claim.

Each method is one short transaction. While Postgres does not answer, the write is repeated until
it succeeds or the lease counts as lost; so a restart of the database delays a job and no more.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from sqlalchemy.orm import Session

from core.database import Database
from core.errors import JobFailedError, LeaseLostError, UnavailableError
from core.estimation.estimate import JobEstimate
from core.estimation.workload import JobSize
from core.job_estimates import JobEstimator
from core.job_spec import JobSpec, ParentModel
from core.job_state import JobErrorCode, JobStatus, Verdict
from core.models import Artifact, EventLevel, EventType, File, GateDecision, Job
from core.repositories.artifacts import ArtifactRepository
from core.repositories.checkpoints import CheckpointRepository
from core.repositories.files import FileRepository
from core.repositories.gate_decisions import GateDecisionRepository
from core.repositories.job_events import JobEventRepository
from core.repositories.job_leases import Claim, JobLeaseRepository, Outcome
from core.repositories.stage_timings import MeasuredStage, StageTimingRepository
from core.storage.protocol import StoredObject
from worker.cancellation import StopSignals

RETRY_SECONDS: Final = 0.5

T = TypeVar("T")


class JobJournal:
    """The fenced reads and writes of one claimed job.

    Args:
        database: Where they go.
        claim: The job and the fence.
        signals: Says when to stop repeating a write.
    """

    def __init__(self, database: Database, claim: Claim, signals: StopSignals) -> None:
        self._database = database
        self._signals = signals
        self.claim = claim

    def load(self) -> tuple[Job, File, File | None]:
        """Read the job and its files.

        Raises:
            JobFailedError: A file is gone.
        """

        def read(session: Session) -> tuple[Job | None, File | None, File | None]:
            job = JobLeaseRepository(session).get_for_worker(self.claim.job_id)
            if job is None:
                return None, None, None
            files = FileRepository(session)
            validation = files.get_for_worker(job.validation_file) if job.validation_file else None
            return job, files.get_for_worker(job.training_file), validation

        job, training, validation = self._repeat(read)
        if job is None or training is None:
            raise JobFailedError(
                "The training file no longer exists.",
                code=JobErrorCode.INVALID_TRAINING_FILE,
                param="training_file",
            )
        if job.validation_file is not None and validation is None:
            raise JobFailedError(
                "The validation file no longer exists.",
                code=JobErrorCode.INVALID_VALIDATION_FILE,
                param="validation_file",
            )
        return job, training, validation

    def parent_archive(self, project_id: str, parent: ParentModel) -> File:
        """Read the file of the tuned model that a project's job continues.

        Raises:
            JobFailedError: It was deleted, or is no longer shared with the project.
        """

        def find(session: Session) -> File | None:
            file = FileRepository(session).get_for_worker(parent.file_id)
            if file is None or file.project_id == project_id:
                return file
            shared = CheckpointRepository(session).find_visible(project_id, parent.model)
            return None if shared is None else file

        file = self._repeat(find)
        if file is None:
            raise JobFailedError(
                "The tuned model that this job continues was deleted, or is no longer shared.",
                code=JobErrorCode.MODEL_NOT_FOUND,
                param="model",
            )
        return file

    def initial_adapter(self, file_id: str, param: str) -> File:
        """Read the file of the adapter that the job begins with, which stands at this place.

        Raises:
            JobFailedError: It was deleted.
        """
        file = self._repeat(lambda session: FileRepository(session).get_for_worker(file_id))
        if file is None:
            raise JobFailedError(
                "The file of the initial adapter no longer exists.",
                code=JobErrorCode.INVALID_INITIAL_ADAPTER,
                param=param,
            )
        return file

    def read(self, operation: Callable[[Session], T]) -> T:
        """Read what only few jobs need."""
        return self._repeat(operation)

    def event(
        self,
        message: str,
        *,
        level: str = EventLevel.INFO,
        event_type: str = EventType.MESSAGE,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        """Add a line to the job's history."""
        self._repeat(
            lambda session: JobEventRepository(session).append(
                self.claim.job_id,
                message=message,
                fence=self.claim.fence,
                level=EventLevel(level),
                event_type=EventType(event_type),
                data=None if data is None else dict(data),
            )
        )

    def progress(
        self,
        progress: Mapping[str, Any],
        *,
        estimated_finish_at: datetime | None = None,
        trained_tokens: int | None = None,
    ) -> None:
        """Replace what the job says about its progress."""
        self._repeat(
            lambda session: JobLeaseRepository(session).record_progress(
                self.claim.job_id,
                self.claim.fence,
                dict(progress),
                estimated_finish_at=estimated_finish_at,
                trained_tokens=trained_tokens,
            )
        )

    def published(self) -> dict[str, Artifact]:
        """Map names to all that stages of this job have published, in any attempt."""
        return self._repeat(
            lambda session: ArtifactRepository(session).list_for_worker(self.claim.job_id)
        )

    def publish(self, name: str, stored: StoredObject) -> Artifact:
        """Make a stored object the job's artifact of this name."""
        return self._repeat(
            lambda session: ArtifactRepository(session).publish(
                self.claim.job_id, self.claim.fence, name, stored
            )
        )

    def supersede(self, name: str, stored: StoredObject, withdrawn: Sequence[str]) -> Artifact:
        """Make a stored object the job's artifact, and withdraw others with the one before."""
        return self._repeat(
            lambda session: ArtifactRepository(session).supersede(
                self.claim.job_id, self.claim.fence, name, stored, withdrawn
            )
        )

    def estimate(self, estimator: JobEstimator, spec: JobSpec, size: JobSize) -> JobEstimate:
        """Estimate the job from what past ones took."""
        return self._repeat(lambda session: estimator.estimate(session, spec, size))

    def record_timing(self, measured: MeasuredStage) -> None:
        """Keep what a stage took."""
        self._repeat(
            lambda session: StageTimingRepository(session).record(
                self.claim.job_id, self.claim.fence, measured
            )
        )

    def record_decision(
        self, archive_sha256: str, verdict: Verdict, policy: Mapping[str, Any], reasons: list[Any]
    ) -> GateDecision:
        """Write the verdict on an archive; the first one on the same bytes stands."""
        return self._repeat(
            lambda session: GateDecisionRepository(session).record(
                self.claim.job_id,
                self.claim.fence,
                archive_sha256=archive_sha256,
                verdict=verdict,
                policy=dict(policy),
                reasons=reasons,
            )
        )

    def decision(self, archive_sha256: str) -> GateDecision | None:
        """Find the verdict on these bytes."""
        return self._repeat(
            lambda session: GateDecisionRepository(session).find_for_worker(
                self.claim.job_id, archive_sha256
            )
        )

    def record_checkpoint(self, step: int, message: str, add: Callable[[Session], object]) -> None:
        """Write the checkpoint of a step, with the line that says so, unless there is one."""

        def write(session: Session) -> None:
            if CheckpointRepository(session).find_for_worker(self.claim.job_id, step) is None:
                # The line locks the job's row: what holds now holds until both are committed.
                JobEventRepository(session).append(
                    self.claim.job_id, message=message, fence=self.claim.fence
                )
                if not JobLeaseRepository(session).is_held(self.claim.job_id, self.claim.fence):
                    raise LeaseLostError("The job is over.")
                add(session)

        self._repeat(write)

    def finish(
        self,
        make_outcome: Callable[[Session], Outcome],
        *,
        message: str,
        level: str = EventLevel.INFO,
        announcement: str | None = None,
    ) -> None:
        """End the job: its last events, its files and its final state in one transaction."""

        def write(session: Session) -> None:
            leases = JobLeaseRepository(session)
            outcome = make_outcome(session)
            if leases.is_held(self.claim.job_id, self.claim.fence):
                events = JobEventRepository(session)
                last = [(announcement, EventLevel.INFO), (message, EventLevel(level))]
                for text, importance in last:
                    if text is not None:
                        events.append(
                            self.claim.job_id,
                            message=text,
                            fence=self.claim.fence,
                            level=importance,
                        )
            leases.finish(self.claim.job_id, self.claim.fence, outcome)

        self._end_claim(write)

    def fail(self, error: Mapping[str, Any], *, trained_tokens: int | None = None) -> None:
        """End the job as failed."""
        outcome = Outcome(JobStatus.FAILED, error=dict(error), trained_tokens=trained_tokens)
        self.finish(
            lambda _: outcome,
            message=f"The job failed: {error['message']}",
            level=EventLevel.ERROR,
        )

    def cancel(self) -> None:
        """End the job as cancelled."""
        self.finish(lambda _: Outcome(JobStatus.CANCELLED), message="Job cancelled.")

    def release(self, message: str, *, delay: timedelta, count_attempt: bool) -> None:
        """Give the job back to the queue, or pause it if that was asked for."""

        def write(session: Session) -> None:
            events = JobEventRepository(session)
            events.append(
                self.claim.job_id, message=message, fence=self.claim.fence, level=EventLevel.WARN
            )
            job = JobLeaseRepository(session).release(
                self.claim.job_id, self.claim.fence, delay=delay, count_attempt=count_attempt
            )
            if job.status is JobStatus.PAUSED:
                events.append(self.claim.job_id, message="Job paused.")

        self._end_claim(write)

    def pause(self, step: int | None) -> None:
        """Give the job up as paused; back to the queue if the wish was withdrawn meanwhile.

        Args:
            step: The optimizer step behind which training will go on, if it is under way.
        """

        def write(session: Session) -> None:
            job = JobLeaseRepository(session).release(self.claim.job_id, self.claim.fence)
            message = "Job paused." if step is None else f"Job paused at step {step}."
            if job.status is not JobStatus.PAUSED:
                message = "The pause was called off; the job waits for a worker again."
            data = None if step is None else {"step": step}
            JobEventRepository(session).append(self.claim.job_id, message=message, data=data)

        self._end_claim(write)

    def _end_claim(self, write: Callable[[Session], None]) -> None:
        """Write what ends the claim; a heartbeat that then finds no lease has lost nothing."""
        self._repeat(write)
        self._signals.give_up_lease()

    def _repeat(self, operation: Callable[[Session], T]) -> T:
        while True:
            self._signals.raise_if_lease_lost()
            try:
                with self._database.session() as session:
                    return operation(session)
            except UnavailableError:
                time.sleep(RETRY_SECONDS)
