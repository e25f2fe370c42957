"""What the demo does over HTTP, with the stock ``openai`` client and nothing else."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from cli.errors import DemoError
from cli.progress import Show, snapshot_of

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
POLL_SECONDS = 1.0
HASH_HEADER = "x-content-sha256"


@dataclass(frozen=True)
class Download:
    """A file that was downloaded, and the SHA-256 the gateway announced for it."""

    path: Path
    announced_sha256: str | None


class DemoClient:
    """The few calls a user makes from upload to download.

    Args:
        address: The gateway's address, without ``/v1``.
        api_key: A key of the demo's project.
    """

    def __init__(self, address: str, api_key: str) -> None:
        self._openai = OpenAI(base_url=f"{address}/v1", api_key=api_key)

    def close(self) -> None:
        """Close the connections."""
        self._openai.close()

    def cancel_unfinished_jobs(self) -> int:
        """Cancel what an interrupted demo left behind; return how many jobs that were."""
        unfinished = [job for job in self._openai.fine_tuning.jobs.list() if _unfinished(job)]
        for job in unfinished:
            self.cancel(job.id)
        return len(unfinished)

    def cancel(self, job_id: str) -> None:
        """Cancel a job if that is still possible; the caller is cleaning up and goes on anyway."""
        with suppress(openai.OpenAIError):
            self._openai.fine_tuning.jobs.cancel(job_id)

    def upload(self, path: Path) -> str:
        """Upload training rows and return the file's id."""
        with path.open("rb") as rows:
            return self._openai.files.create(file=rows, purpose="fine-tune").id

    def create_job(self, model: str, training: str, validation: str, method: Any) -> str:  # noqa: ANN401
        """Create the job and return its id; ``method`` is OpenAI's object with our extra keys."""
        job = self._openai.fine_tuning.jobs.create(
            model=model,
            training_file=training,
            validation_file=validation,
            method=method,
            suffix="demo",
            seed=1,
        )
        return job.id

    def watch(
        self, job_id: str, show: Show, on_poll: Callable[[], None], seconds: float
    ) -> FineTuningJob:
        """Poll the job until it ends, and return its last answer.

        Raises:
            DemoError: It did not end in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            on_poll()
            job = self._openai.fine_tuning.jobs.retrieve(job_id)
            show(snapshot_of(job.model_dump(), self._newest_metrics(job_id), time.time()))
            if job.status in TERMINAL:
                return job
            time.sleep(POLL_SECONDS)
        raise DemoError(f"The job {job_id} did not end within {seconds:g} s.")

    def download(self, file_id: str, path: Path) -> Download:
        """Download a result file."""
        answer = self._openai.files.content(file_id)
        answer.write_to_file(path)
        return Download(path=path, announced_sha256=answer.response.headers.get(HASH_HEADER))

    def _newest_metrics(self, job_id: str) -> Mapping[str, Any]:
        """Merge the last metrics; the harmful loss is measured at some steps only."""
        merged: dict[str, Any] = {}
        for event in self._openai.fine_tuning.jobs.list_events(job_id, limit=20).data:
            if event.type == "metrics" and isinstance(event.data, dict):
                merged = {**event.data, **merged}
        return merged


def _unfinished(job: FineTuningJob) -> bool:
    return job.status not in TERMINAL
