"""The doors out of the house for one job: verdicts, released files, the job's last state."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy.orm import Session

from core.job_state import JobErrorCode, JobStatus, Verdict
from core.models import EventLevel, File, FileKind, Job
from core.repositories.checkpoints import CheckpointRepository
from core.repositories.files import FileRepository
from core.repositories.job_leases import Outcome
from core.stages import ArtifactName
from core.storage.protocol import ArtifactStorage, StoredObject, released_key
from worker.artifact_exchange import ArtifactExchange, CorruptArtifactError
from worker.journal import JobJournal

# The order is a contract: clients take `result_files[0]` for the metrics. The answers are no part
# of it: they are listed among the project's files and have a route of their own.
RESULT_KINDS: Final = {
    ArtifactName.METRICS: FileKind.METRICS,
    ArtifactName.ARCHIVE: FileKind.ADAPTER_ARCHIVE,
    ArtifactName.REPORT: FileKind.REPORT,
    ArtifactName.ANSWERS: FileKind.ANSWERS,
}

BLOCKED_MESSAGE: Final = "The adapter was not released, because it does not meet the safety policy:"


class JobPublisher:
    """Records what the gate decides and publishes what it lets through.

    Args:
        job: The job as it was when this attempt began.
        journal: The job's rows, under our fence.
        exchange: Knows what stages have published for the adapter at hand.
        storage: Holds the bytes.
    """

    def __init__(
        self,
        job: Job,
        journal: JobJournal,
        exchange: ArtifactExchange,
        storage: ArtifactStorage,
    ) -> None:
        self._job = job
        self._journal = journal
        self._exchange = exchange
        self._storage = storage

    def decide(
        self, archive_sha256: str, verdict: Verdict, policy: Mapping[str, Any], reasons: list[Any]
    ) -> None:
        """Record the verdict on exactly these bytes."""
        self._journal.record_decision(archive_sha256, verdict, policy, reasons)

    def verdict(self, archive_sha256: str) -> Verdict | None:
        """Look up the verdict on exactly these bytes."""
        decision = self._journal.decision(archive_sha256)
        return None if decision is None else decision.verdict

    def release(self, name: ArtifactName) -> StoredObject:
        """Copy a published artifact to where users may download it.

        Raises:
            CorruptArtifactError: The copy is not what was published.
        """
        artifact = self._exchange.published(name)
        full_name = self._exchange.workspace.published_name(name)
        destination = released_key(self._job.id, self._journal.claim.fence, full_name)
        stored = self._storage.copy(artifact.storage_key, destination)
        if stored.sha256 != artifact.sha256:
            self._storage.delete(destination)
            raise CorruptArtifactError(f"Artifact {name} changed in storage.")
        return stored

    def release_checkpoint(self, metrics: Mapping[str, Any]) -> str:
        """Publish the archive of a snapshot as a checkpoint, and give its name as a model."""
        stored = self.release(ArtifactName.ARCHIVE)
        step = metrics["step"]
        name = f"{fine_tuned_model_name(self._job)}:ckpt-step-{step}"

        def add(session: Session) -> None:
            archive = self._add_file(session, ArtifactName.ARCHIVE, stored)
            self._add_checkpoint(session, name, archive, metrics)

        # One that an attempt has published before it was cut short stands as it is.
        self._journal.record_checkpoint(step, f"Checkpoint created at step {step}: {name}", add)
        return name

    def succeed(
        self,
        released: Mapping[ArtifactName, StoredObject],
        safety: Mapping[str, Any],
        metrics: Mapping[str, Any],
    ) -> None:
        """End the job as succeeded, with its files and its last checkpoint."""
        name = fine_tuned_model_name(self._job)

        def outcome(session: Session) -> Outcome:
            files = self._add_files(session, released)
            archive = next(file for file in files if file.kind is FileKind.ADAPTER_ARCHIVE)
            self._add_checkpoint(session, name, archive, metrics)
            return Outcome(
                JobStatus.SUCCEEDED,
                safety=dict(safety),
                archive_sha256=archive.sha256,
                fine_tuned_model=name,
                result_file_ids=_result_file_ids(files),
            )

        self._journal.finish(
            outcome,
            message="The job has successfully completed.",
            announcement=f"New fine-tuned model created: {name}",
        )

    def block(
        self, released: Mapping[ArtifactName, StoredObject], safety: Mapping[str, Any]
    ) -> None:
        """End the job as failed by the gate, with the files that say why."""
        message = f"{BLOCKED_MESSAGE} {' '.join(safety['reasons'])}"
        error = {
            "code": JobErrorCode.MODEL_POLICY_VIOLATION.value,
            "message": message,
            "param": None,
        }

        def outcome(session: Session) -> Outcome:
            return Outcome(
                JobStatus.FAILED,
                error=error,
                safety=dict(safety),
                result_file_ids=_result_file_ids(self._add_files(session, released)),
            )

        self._journal.finish(outcome, message=message, level=EventLevel.ERROR)

    def _add_checkpoint(
        self, session: Session, name: str, archive: File, metrics: Mapping[str, Any]
    ) -> None:
        CheckpointRepository(session).add(
            self._job.id,
            model=name,
            step_number=metrics["step"],
            metrics=dict(metrics),
            file_id=archive.id,
        )

    def _add_files(
        self, session: Session, released: Mapping[ArtifactName, StoredObject]
    ) -> list[File]:
        return [
            self._add_file(session, name, released[name])
            for name in RESULT_KINDS
            if name in released
        ]

    def _add_file(self, session: Session, name: ArtifactName, stored: StoredObject) -> File:
        return FileRepository(session).add_result(
            self._job.project_id,
            job_id=self._job.id,
            kind=RESULT_KINDS[name],
            filename=stored.key.rpartition("/")[2],
            stored=stored,
        )


def _result_file_ids(files: Sequence[File]) -> list[str]:
    return [file.id for file in files if file.kind is not FileKind.ANSWERS]


def fine_tuned_model_name(job: Job) -> str:
    """Name the new model as OpenAI does: base, organisation, suffix and the end of the job's id."""
    return f"ft:{job.spec['model']}:tuneward:{job.suffix or ''}:{job.id[-8:]}"
