"""Writing a new job once: the same request, sent again, is the same job."""

import hashlib
import json
from dataclasses import dataclass

from pydantic import JsonValue
from sqlalchemy.orm import Session

from api.fine_tuning.repetition import Repetition
from core.models import Job
from core.outbox import wake_worker
from core.quotas import QuotaKeeper
from core.repositories.job_events import JobEventRepository
from core.repositories.job_queue import JobQueueRepository
from core.repositories.jobs import JobRepository, NewJob
from core.settings import Settings


@dataclass(frozen=True)
class JobRecorder:
    """Records jobs of one project within one transaction."""

    session: Session
    project_id: str
    settings: Settings

    def earlier(self, fingerprint: str, repeated: Repetition) -> Job | None:
        """Find the job that the same request created before.

        Raises:
            InvalidRequestError: The idempotency key came with a different request before.
        """
        jobs = JobRepository(self.session)
        if repeated.idempotency_key is not None:
            return jobs.find_by_idempotency_key(
                self.project_id, repeated.idempotency_key, fingerprint
            )
        if repeated.window is not None:
            return jobs.find_recent_twin(self.project_id, fingerprint, repeated.window)
        return None

    def earlier_alone(self, fingerprint: str, repeated: Repetition) -> Job | None:
        """Find it while no identical request is served, until the transaction ends."""
        JobQueueRepository(self.session).lock_creation(
            self.project_id, repeated.idempotency_key or fingerprint
        )
        return self.earlier(fingerprint, repeated)

    def add(self, new: NewJob) -> Job:
        """Record a job that no worker may have yet.

        Raises:
            QuotaExceededError: As many of the project's jobs wait as may.
        """
        QuotaKeeper(self.session, self.project_id, self.settings).admit_job()
        return JobRepository(self.session).add(self.project_id, new)

    def announce(self, job: Job, message: str) -> Job:
        """Begin the history of a recorded job with what is special about it, and wake a worker."""
        events = JobEventRepository(self.session)
        events.append(job.id, message=f"Created fine-tuning job: {job.id}")
        events.append(job.id, message=message)
        wake_worker(self.session)
        return job


def fingerprint(request: JsonValue) -> str:
    """Name a request by what it asks for."""
    return hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
