"""Removes what jobs leave behind: users' rows and weights nobody may download.

Everything a stage publishes lies under `staging/<job>/<fence>/`, and every attempt has a workspace
`<workspaces>/<job>/<fence>/`; both hold users' rows. Of a finished job all of it goes, a blocked
archive included, and of a live one what dead attempts left and no artifact names. A finished job
also loses what was copied to `released/` before its end without becoming a file.

Only what follow-up jobs take over stays for a while, once a job was judged: weights, perturbation
and figures apart from each other, and no rows.

A job that this database does not know is left alone: the address may be the wrong one.
"""

import shutil
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import structlog

from core.database import Database
from core.errors import TunewardError
from core.job_state import TERMINAL
from core.models import Job
from core.repositories.artifacts import ArtifactRepository
from core.repositories.files import FileRepository
from core.repositories.job_leases import JobLeaseRepository
from core.storage.protocol import RELEASED, STAGING, ArtifactStorage

_log = structlog.get_logger(__name__)


class Leftovers:
    """Finds and removes leftovers; any number of processes may do so at once.

    Args:
        database: Knows which jobs are finished, and which attempt is the newest.
        storage: Holds published artifacts.
        workspaces: The folder of this machine's workspaces.
        retention: How long after a job's end its training may still be taken over.
    """

    def __init__(
        self,
        database: Database,
        storage: ArtifactStorage,
        workspaces: Path,
        retention: timedelta,
    ) -> None:
        self._retention = retention
        self._database = database
        self._storage = storage
        self._workspaces = workspaces

    def try_to_remove(self) -> int:
        """Remove what can be removed now; a fault of storage or database is for the next time."""
        try:
            return self.remove()
        except (OSError, TunewardError):
            _log.warning("leftovers_remain", exc_info=True)
            return 0

    def remove(self) -> int:
        """Remove all there is; tell from how many jobs something went."""
        return self.remove_objects() + self.remove_workspaces()

    def remove_objects(self) -> int:
        """Remove objects; tell from how many jobs."""
        by_job: defaultdict[str, list[str]] = defaultdict(list)
        for key in self._storage.list_keys(STAGING):
            by_job[key.split("/")[1]].append(key)
        with self._database.session() as session:
            kept = ArtifactRepository(session).list_kept(self._retention)
        count = 0
        for job_id, keys in by_job.items():
            if set(keys) <= set(kept.get(job_id, {}).values()):
                continue
            job = self._job(job_id)
            if job is None:
                continue
            if job.status in TERMINAL:
                self._remove_finished(job_id)
                count += 1
            else:
                count += self._remove_dead_attempts(job, keys)
        return count

    def remove_workspaces(self) -> int:
        """Remove workspaces; tell from how many jobs."""
        if not self._workspaces.is_dir():
            return 0
        count = 0
        for folder in sorted(self._workspaces.iterdir()):
            job = self._job(folder.name)
            if job is None:
                continue
            finished = job.status in TERMINAL
            with suppress(FileNotFoundError):  # another process removes it at the same time
                dead = [
                    path for path in folder.iterdir() if finished or _is_older(path.name, job.fence)
                ]
                for path in dead:
                    shutil.rmtree(path, ignore_errors=True)
                if not any(folder.iterdir()):
                    shutil.rmtree(folder, ignore_errors=True)
                count += bool(dead)
        return count

    def _remove_finished(self, job_id: str) -> None:
        with self._database.session() as session:
            # A follow-up job that is being created waits for us, or we for it.
            JobLeaseRepository(session).lock(job_id)
            handed_out = FileRepository(session).storage_keys_of(job_id)
            artifacts = ArtifactRepository(session)
            kept = artifacts.list_kept(self._retention, job_id).get(job_id, {})
            # The rows first: an object without a row is garbage, a row without an object a lie.
            artifacts.forget(job_id, but=kept)
        self._delete(
            key for key in self._storage.list_keys(f"{RELEASED}/{job_id}") if key not in handed_out
        )
        if kept:
            staged = self._storage.list_keys(f"{STAGING}/{job_id}")
            self._delete(set(staged) - set(kept.values()))
        else:
            self._storage.delete_prefix(f"{STAGING}/{job_id}")
        _log.info("leftovers_removed", job_id=job_id)

    def _remove_dead_attempts(self, job: Job, keys: Collection[str]) -> bool:
        with self._database.session() as session:
            artifacts = ArtifactRepository(session).list_for_worker(job.id).values()
            published = {artifact.storage_key for artifact in artifacts}
        dead = [
            key for key in keys if _is_older(key.split("/")[2], job.fence) and key not in published
        ]
        self._delete(dead)
        return bool(dead)

    def _delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._storage.delete(key)

    def _job(self, job_id: str) -> Job | None:
        with self._database.session() as session:
            return JobLeaseRepository(session).get_for_worker(job_id)


def _is_older(fence: str, current: int) -> bool:
    """Whether a folder belongs to an attempt before the current one; others' folders do not."""
    return fence.isdecimal() and int(fence) < current
