"""Moves artifacts between a job's workspace and storage, and never trusts the copy at hand.

Publishing stores the bytes under a key with the fence in it and then, in a fenced transaction,
points the job at them. Fetching copies the published bytes back and compares their hash with the
published one; so whatever a stage reads is what storage holds.
"""

from collections.abc import Collection, Mapping
from pathlib import Path

import structlog

from core.errors import ObjectNotFoundError, TunewardError
from core.models import Artifact, File
from core.stages import ArtifactName
from core.storage.protocol import ArtifactStorage, staging_key
from worker.journal import JobJournal
from worker.workspace import Workspace

_log = structlog.get_logger(__name__)


class CorruptArtifactError(TunewardError):
    """Storage gave back other bytes than were published."""

    code = "internal_error"


class ArtifactExchange:
    """The way of artifacts in and out of one workspace.

    Args:
        storage: Where published bytes lie.
        journal: Records what is published.
        workspace: The folder of this attempt.
        published: What is published so far, to be added to; None asks the journal.
    """

    def __init__(
        self,
        storage: ArtifactStorage,
        journal: JobJournal,
        workspace: Workspace,
        published: dict[str, Artifact] | None = None,
    ) -> None:
        self.workspace = workspace
        self._storage = storage
        self._journal = journal
        self._published = journal.published() if published is None else published

    def at_snapshot(self, step: int) -> "ArtifactExchange":
        """The same exchange for the files of the snapshot that was taken at a step."""
        workspace = self.workspace.at_snapshot(step)
        return ArtifactExchange(self._storage, self._journal, workspace, self._published)

    def is_published(self, names: tuple[ArtifactName, ...]) -> bool:
        """Whether every one of these is published and still in storage; no names: never."""
        published = [self._published.get(self.workspace.published_name(name)) for name in names]
        return bool(names) and all(
            artifact is not None and self._storage.exists(artifact.storage_key)
            for artifact in published
        )

    def fetch(self, names: tuple[ArtifactName, ...]) -> None:
        """Bring artifacts into the workspace, unless they already came back from storage.

        Raises:
            CorruptArtifactError: The bytes are not those that were published.
            ObjectNotFoundError: One of them was never published.
        """
        for name in names:
            path = self.workspace.artifact(name)
            if path.exists():
                continue
            artifact = self.published(name)
            stored = self._storage.read_to(artifact.storage_key, path)
            if stored.sha256 != artifact.sha256:
                path.unlink()
                raise CorruptArtifactError(f"Artifact {name} came back from storage changed.")

    def fetch_if_there(self, names: tuple[ArtifactName, ...]) -> None:
        """Bring those of the artifacts that a stage of this job has published."""
        self.fetch(tuple(name for name in names if self.is_published((name,))))

    def fetch_origin(self, artifacts: Mapping[ArtifactName, Artifact]) -> None:
        """Bring what another job's training has left, apart from this job's own artifacts."""
        for name, artifact in artifacts.items():
            path = self.workspace.origin(name)
            stored = self._storage.read_to(artifact.storage_key, path)
            if stored.sha256 != artifact.sha256:
                path.unlink()
                raise CorruptArtifactError(f"Artifact {name} came back from storage changed.")

    def fetch_prompts(self, file: File, sha256: str) -> None:
        """Bring the project's own prompts, as they were when the job was created."""
        self._fetch_file(file, self.workspace.prompts_file, sha256)

    def fetch_state(self, name: ArtifactName) -> None:
        """Bring the state of an unfinished stage, if there is one; without it the stage begins."""
        if not self.is_published((name,)):
            return
        try:
            self.fetch((name,))
        except CorruptArtifactError:
            _log.warning("state_corrupt", artifact=name.value)

    def publish_state(self, name: ArtifactName, step: int) -> None:
        """Store the state that a running stage has saved, and let go of the one before.

        Each has a key of its own: until the row points at the new one, the old one is whole.
        """
        taken = self.workspace.output(name).with_suffix(".taken")
        try:
            self.workspace.output(name).replace(taken)
        except FileNotFoundError:
            return  # it was newer than the last announcement, and is published
        claim, before = self._journal.claim, self._published.get(name)
        key = staging_key(claim.job_id, claim.fence, f"{step}.{name.value}")
        stored = self._storage.put_file(key, taken)
        self._published[name] = self._journal.publish(name, stored)
        taken.unlink()
        if before is not None:
            self._storage.delete(before.storage_key)
        _log.info("state_published", artifact=name.value, step=step, bytes=stored.bytes)

    def publish(self, names: tuple[ArtifactName, ...]) -> None:
        """Store what a stage wrote, and make it the job's."""
        claim = self._journal.claim
        for name in names:
            path = self.workspace.output(name)
            full_name = self.workspace.published_name(name)
            key = staging_key(claim.job_id, claim.fence, full_name)
            stored = self._storage.put_file(key, path)
            self._published[full_name] = self._journal.publish(full_name, stored)
            path.unlink()
            self.workspace.artifact(name).unlink(missing_ok=True)
            _log.info("artifact_published", artifact=full_name, bytes=stored.bytes)

    def supersede(
        self, name: ArtifactName, version: int, withdrawn: Collection[ArtifactName]
    ) -> None:
        """Publish what was written anew, and withdraw what was made of the version before, at once.

        Args:
            name: The artifact.
            version: Of its key: until the row points at the new object, the old one is whole.
            withdrawn: What is then made again.
        """
        claim, workspace = self._journal.claim, self.workspace
        full_name, path = workspace.published_name(name), workspace.output(name)
        gone = {workspace.published_name(each): each for each in withdrawn}
        stored = self._storage.put_file(
            staging_key(claim.job_id, claim.fence, f"{version}.{full_name}"), path
        )
        self._published[full_name] = self._journal.supersede(full_name, stored, sorted(gone))
        path.unlink()
        workspace.artifact(name).unlink(missing_ok=True)
        for published_name, each in gone.items():
            self._published.pop(published_name, None)
            workspace.artifact(each).unlink(missing_ok=True)
        _log.info("artifact_superseded", artifact=full_name, withdrawn=sorted(gone))

    def published(self, name: ArtifactName) -> Artifact:
        """Tell what is published under a name.

        Raises:
            ObjectNotFoundError: Nothing is.
        """
        artifact = self._published.get(self.workspace.published_name(name))
        if artifact is None:
            raise ObjectNotFoundError(f"Artifact {name} was never published.")
        return artifact

    def fetch_upload(self, file: File, *, validation: bool = False) -> None:
        """Bring one of the user's files into the workspace."""
        workspace = self.workspace
        path = workspace.validation_file if validation else workspace.training_file
        self._fetch_file(file, path, file.sha256)

    def fetch_parent(self, file: File, sha256: str) -> None:
        """Bring the archive of the tuned model that the job continues, as it was when created."""
        self._fetch_file(file, self.workspace.parent_archive, sha256)

    def fetch_initial_adapter(self, file: File, sha256: str) -> None:
        """Bring the adapter archive that the job begins with, as it was when created."""
        self._fetch_file(file, self.workspace.initial_adapter, sha256)

    def _fetch_file(self, file: File, path: Path, sha256: str) -> None:
        stored = self._storage.read_to(file.storage_key, path)
        if stored.sha256 != sha256:
            path.unlink()
            raise CorruptArtifactError(f"File {file.id} came back from storage changed.")
