"""Reads and writes of `artifacts`; used by the worker and the reconciler alone."""

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.errors import LeaseLostError
from core.ids import new_id
from core.job_state import JobStatus
from core.models import Artifact, Job
from core.storage.protocol import StoredObject


class ArtifactRepository:
    """What the stages of a job have published."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def publish(self, job_id: str, fence: int, name: str, stored: StoredObject) -> Artifact:
        """Make a stored object the job's artifact of this name, instead of an earlier one.

        Raises:
            LeaseLostError: The caller no longer holds the job; what it stored is garbage.
        """
        held = (
            select(Job.id)
            .where(Job.id == job_id, Job.fence == fence, Job.status == JobStatus.RUNNING)
            .with_for_update(key_share=True)
        )
        if self._session.scalar(held) is None:
            raise LeaseLostError(f"Job {job_id} is no longer held with fence {fence}.")
        values = {
            "fence": fence,
            "storage_key": stored.key,
            "sha256": stored.sha256,
            "bytes": stored.bytes,
        }
        statement = (
            insert(Artifact)
            .values(id=new_id("art"), job_id=job_id, name=name, **values)
            .on_conflict_do_update(index_elements=["job_id", "name"], set_=values)
            .returning(Artifact)
            .execution_options(populate_existing=True)
        )
        return self._session.scalars(statement).one()

    def supersede(
        self, job_id: str, fence: int, name: str, stored: StoredObject, withdrawn: Sequence[str]
    ) -> Artifact:
        """Publish another version of an artifact and withdraw what was made of the one before.

        Raises:
            LeaseLostError: The caller no longer holds the job.
        """
        published = self.publish(job_id, fence, name, stored)
        self._session.execute(
            delete(Artifact).where(Artifact.job_id == job_id, Artifact.name.in_(withdrawn))
        )
        return published

    def find_for_worker(self, job_id: str, name: str) -> Artifact | None:
        """Find what was published under a name, if anything was."""
        return self._session.scalar(
            select(Artifact).where(Artifact.job_id == job_id, Artifact.name == name)
        )

    def list_for_worker(self, job_id: str) -> dict[str, Artifact]:
        """Map the names to everything published for a job."""
        rows = self._session.scalars(select(Artifact).where(Artifact.job_id == job_id))
        return {artifact.name: artifact for artifact in rows}

    def forget(self, job_id: str) -> None:
        """Withdraw everything a job has published, because its objects are about to go."""
        self._session.execute(delete(Artifact).where(Artifact.job_id == job_id))
