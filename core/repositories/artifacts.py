"""Reads and writes of `artifacts`; the gateway asks only whether they are kept."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, delete, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased

from core.errors import LeaseLostError
from core.follow_up import TAKEN_OVER
from core.ids import new_id
from core.job_state import TERMINAL, JobStatus
from core.models import Artifact, Job
from core.repositories.clock import database_now
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

    def list_kept(
        self, retention: timedelta, job_id: str | None = None
    ) -> dict[str, dict[str, str]]:
        """Map finished jobs to what their training has left and may still be taken over.

        It is kept for `retention` after a job was judged, unless its model is deleted; and for as
        long as a follow-up job of it is not finished.

        Args:
            retention: How long.
            job_id: Only this job; None asks for all.

        Returns:
            Of each job the names of its artifacts, and their storage keys.
        """
        statement = (
            select(Artifact.job_id, Artifact.name, Artifact.storage_key)
            .join(Job, Job.id == Artifact.job_id)
            .where(Artifact.name.in_(TAKEN_OVER), _is_kept(retention))
        )
        if job_id is not None:
            statement = statement.where(Job.id == job_id)
        kept: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for row in self._session.execute(statement):
            kept[row.job_id][row.name] = row.storage_key
        return dict(kept)

    def forget(self, job_id: str, but: Collection[str] = ()) -> None:
        """Withdraw what a job has published, because its objects are about to go."""
        self._session.execute(
            delete(Artifact).where(Artifact.job_id == job_id, Artifact.name.not_in(but))
        )


def _is_kept(retention: timedelta) -> ColumnElement[bool]:
    follow_up = aliased(Job)
    wanted = select(follow_up.spec["follow_up"]["job_id"].astext).where(
        follow_up.status.not_in(TERMINAL)
    )
    is_young = and_(Job.finished_at > database_now() - retention, Job.model_deleted_at.is_(None))
    # Only a job that was judged has a verdict.
    return and_(
        Job.status.in_(TERMINAL), Job.safety.is_not(None), or_(is_young, Job.id.in_(wanted))
    )
