"""The private folder of one attempt at a job.

    <home>/workspaces/<job>/<fence>/
        inputs/     the user's files
        artifacts/  what stages read: always bytes that came back from storage
        outputs/    what the running stage writes, before it is published

A stage never reads what another stage wrote directly: outputs go to storage, and come back.

The snapshots that training takes of the adapter share the folder with the final one. A stage that
runs for a snapshot sees that snapshot's files under the usual names.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from core.errors import TunewardError
from core.stages import SNAPSHOT_ARTIFACTS, ArtifactName


class WorkspaceError(TunewardError):
    """A stage asked for a file that it did not declare, or that is not there."""

    code = "internal_error"


class Workspace:
    """Names the files of one attempt.

    Args:
        root: The folder of the attempt.
        snapshot_step: The optimizer step of the snapshot that is worked on; None is the final
            adapter.
    """

    def __init__(self, root: Path, snapshot_step: int | None = None) -> None:
        self.root = root
        self.snapshot_step = snapshot_step
        self.inputs = root / "inputs"
        self._artifacts = root / "artifacts"
        self._outputs = root / "outputs"

    @classmethod
    def create(cls, parent: Path, job_id: str, fence: int) -> "Workspace":
        """Make an empty workspace; what a dead attempt of the same name left is removed."""
        root = parent / job_id / str(fence)
        shutil.rmtree(root, ignore_errors=True)
        workspace = cls(root)
        for folder in (workspace.inputs, workspace._artifacts, workspace._outputs):
            folder.mkdir(parents=True, mode=0o700)
        return workspace

    @property
    def training_file(self) -> Path:
        """The user's training rows, as uploaded."""
        return self.inputs / "training.jsonl"

    @property
    def validation_file(self) -> Path:
        """The user's validation rows, as uploaded; the file exists only if the job has some."""
        return self.inputs / "validation.jsonl"

    @property
    def parent_archive(self) -> Path:
        """The archive of the tuned model to continue; it exists only if the job has one."""
        return self.inputs / "parent.tar"

    @property
    def initial_adapter(self) -> Path:
        """The user's adapter archive, as uploaded; it exists only if the job begins with one."""
        return self.inputs / "initial_adapter.tar"

    @property
    def prompts_file(self) -> Path:
        """The project's own prompts, as uploaded; it exists only if the job asks them."""
        return self.inputs / "prompts.jsonl"

    def origin(self, name: ArtifactName) -> Path:
        """Where an artifact of a follow-up job's origin lies, before it is taken over."""
        return self.inputs / f"origin.{name.value}"

    def at_snapshot(self, step: int) -> "Workspace":
        """The same folder, with the files of the snapshot that was taken at a step."""
        return Workspace(self.root, step)

    def published_name(self, name: ArtifactName) -> str:
        """Under which name an artifact is published; a snapshot's own carry its step."""
        if self.snapshot_step is None or name not in SNAPSHOT_ARTIFACTS:
            return name.value
        return f"step-{self.snapshot_step}.{name.value}"

    def artifact(self, name: ArtifactName) -> Path:
        """Where a published artifact lies once it has come back from storage."""
        return self._artifacts / self.published_name(name)

    def output(self, name: ArtifactName) -> Path:
        """Where the running stage writes an artifact."""
        return self._outputs / self.published_name(name)

    def snapshots_written(self) -> list[int]:
        """At which steps the running stage took the snapshots that it leaves."""
        trained = json.loads(self.output(ArtifactName.TRAINING).read_bytes())
        return list(trained["snapshot_steps"])

    def read_json(self, name: ArtifactName) -> dict[str, Any]:
        """Read an artifact that is one JSON object."""
        with self.artifact(name).open(encoding="utf-8") as file:
            value: dict[str, Any] = json.load(file)
        return value

    def write_json(self, name: ArtifactName, value: Mapping[str, Any]) -> None:
        """Write an artifact that is one JSON object; equal values give equal bytes.

        Raises:
            ValueError: A number is not finite; JSON has no word for it.
        """
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        self.output(name).write_text(text + "\n", encoding="utf-8")

    def read_lines(self, name: ArtifactName) -> Iterator[dict[str, Any]]:
        """Read an artifact of JSON Lines, one object at a time."""
        with self.artifact(name).open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)

    def remove(self) -> None:
        """Delete the folder, and its parent if no other attempt uses it."""
        shutil.rmtree(self.root, ignore_errors=True)
        try:
            os.rmdir(self.root.parent)  # noqa: PTH106  (fails on purpose when not empty)
        except OSError:
            return
