"""Reads and writes of `files`."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Select, func, or_, select, tuple_, update
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError, NotFoundError
from core.ids import new_id
from core.job_state import TERMINAL
from core.models import File, FileKind, FileStatus, Job
from core.models.base import Json
from core.repositories.clock import database_now
from core.repositories.pagination import Page, cut_page
from core.storage.protocol import StoredObject

RESULTS: Final = "fine-tune-results"


class FileRepository:
    """Files; everything a client asks for names its project."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add_upload(
        self,
        project_id: str,
        *,
        file_id: str,
        filename: str,
        purpose: str,
        stored: StoredObject,
        status: FileStatus = FileStatus.UPLOADED,
        validation: Json | None = None,
    ) -> File:
        """Record a file that a user sent and storage holds."""
        return self._add(
            File(
                id=file_id,
                project_id=project_id,
                kind=FileKind.UPLOAD,
                filename=filename,
                purpose=purpose,
                bytes=stored.bytes,
                sha256=stored.sha256,
                storage_key=stored.key,
                status=status,
                validation=validation,
            )
        )

    def add_validation_report(self, file: File, *, filename: str, stored: StoredObject) -> File:
        """Record the report on an uploaded file, which goes when the file goes."""
        report = self._add(
            File(
                id=new_id("file"),
                project_id=file.project_id,
                kind=FileKind.VALIDATION_REPORT,
                filename=filename,
                purpose=RESULTS,
                bytes=stored.bytes,
                sha256=stored.sha256,
                storage_key=stored.key,
                status=FileStatus.PROCESSED,
                expires_at=file.expires_at,
            )
        )
        file.validation_report_id = report.id
        self._session.flush()
        return report

    def add_result(
        self, project_id: str, *, job_id: str, kind: FileKind, filename: str, stored: StoredObject
    ) -> File:
        """Record a file that a job hands out.

        An adapter archive needs a released gate decision on exactly these bytes first: the
        database refuses it otherwise. Recording the same object again gives the first record, so
        that a release that was cut short can be repeated.
        """
        present = self._session.scalar(select(File).where(File.storage_key == stored.key))
        if present is not None and (present.job_id, present.sha256) == (job_id, stored.sha256):
            return present
        return self._add(
            File(
                id=new_id("file"),
                project_id=project_id,
                job_id=job_id,
                kind=kind,
                filename=filename,
                purpose=RESULTS,
                bytes=stored.bytes,
                sha256=stored.sha256,
                storage_key=stored.key,
                status=FileStatus.PROCESSED,
            )
        )

    def get(self, project_id: str, file_id: str) -> File:
        """Find a project's file.

        Raises:
            NotFoundError: The project has no such file.
        """
        file = self._session.scalar(_visible(project_id).where(File.id == file_id))
        if file is None:
            raise NotFoundError(f"No such File object: {file_id}", param="file_id")
        return file

    def get_for_worker(self, file_id: str) -> File | None:
        """Find any project's file by the id a job names, unless it was deleted meanwhile."""
        return self._session.scalar(
            select(File).where(File.id == file_id, File.deleted_at.is_(None))
        )

    def stored_bytes(self, project_id: str) -> int:
        """Add up the bytes of all files that a project keeps, results included."""
        total = select(func.sum(File.bytes)).where(
            File.project_id == project_id, File.deleted_at.is_(None)
        )
        return int(self._session.scalar(total) or 0)

    def storage_keys_of(self, job_id: str) -> set[str]:
        """Name the objects behind all files that a job handed out, deleted or not."""
        return set(self._session.scalars(select(File.storage_key).where(File.job_id == job_id)))

    def list_results(self, project_id: str, job_id: str, kind: FileKind) -> list[File]:
        """List what a job handed out of one kind and nobody has deleted."""
        statement = _visible(project_id).where(File.job_id == job_id, File.kind == kind)
        return list(self._session.scalars(statement))

    def list_page(
        self,
        project_id: str,
        *,
        purpose: str | None = None,
        after: str | None = None,
        limit: int = 20,
        oldest_first: bool = False,
    ) -> Page[File]:
        """List a project's files from the one behind `after`, newest first if not said otherwise.

        Reports on training files are found through their file, and not listed. `after` may be a
        file that is deleted or expired.

        Raises:
            InvalidRequestError: `after` never named a file of the project.
        """
        statement = _visible(project_id).where(File.kind != FileKind.VALIDATION_REPORT)
        if purpose is not None:
            statement = statement.where(File.purpose == purpose)
        if after is not None:
            # Whoever deletes each file of a page goes on behind one that is deleted.
            last = self._session.scalar(
                select(File).where(File.project_id == project_id, File.id == after)
            )
            if last is None:
                raise InvalidRequestError(f"No such File object: {after}", param="after")
            place, cursor = tuple_(File.created_at, File.id), tuple_(last.created_at, last.id)
            statement = statement.where(place > cursor if oldest_first else place < cursor)
        columns = (File.created_at, File.id)
        statement = statement.order_by(
            *(columns if oldest_first else [column.desc() for column in columns])
        )
        return cut_page(self._session.scalars(statement.limit(limit + 1)), limit)

    def set_validation(
        self, project_id: str, file_id: str, *, status: FileStatus, report: Json
    ) -> File:
        """Note what reading the rows has shown."""
        file = self.get(project_id, file_id)
        file.status = status
        file.validation = report
        self._session.flush()
        return file

    def mark_deleted(self, project_id: str, file_id: str) -> list[File]:
        """Hide a file and its report for good; their bytes are the caller's to remove."""
        file = self.get(project_id, file_id)
        report = self._session.scalar(
            _visible(project_id).where(File.id == file.validation_report_id)
        )
        gone = [file] if report is None else [file, report]
        for each in gone:
            each.deleted_at = self._now()
        self._session.execute(
            update(File)
            .where(File.project_id == project_id, File.validation_report_id == file_id)
            .values(validation_report_id=None)
        )
        self._session.flush()
        return gone

    def set_lifetime(self, file: File, lifetime: timedelta) -> None:
        """Let a file go by itself, so long after it was made."""
        file.expires_at = file.created_at + lifetime
        self._session.flush()

    def list_expired(self, grace: timedelta, limit: int = 100) -> list[File]:
        """List files of any project that expired longer than `grace` ago and no live job reads."""
        reading = (
            select(Job.id)
            .where(Job.project_id == File.project_id, Job.status.not_in(TERMINAL))
            .where(
                or_(
                    Job.training_file == File.id,
                    Job.validation_file == File.id,
                    Job.spec["initial_adapter"]["file_id"].astext == File.id,
                    Job.spec["follow_up"]["prompts"]["file_id"].astext == File.id,
                )
            )
        )
        statement = (
            select(File)
            .where(File.deleted_at.is_(None), File.expires_at < database_now() - grace)
            .where(~reading.exists())
            .order_by(File.expires_at)
            .limit(limit)
        )
        return list(self._session.scalars(statement))

    def mark_expired(self, file_id: str) -> None:
        """Note that the bytes of an expired file are gone."""
        self._session.execute(
            update(File)
            .where(File.id == file_id, File.deleted_at.is_(None))
            .values(deleted_at=database_now())
        )

    def _now(self) -> datetime:
        return self._session.scalars(select(database_now())).one()

    def _add(self, file: File) -> File:
        self._session.add(file)
        self._session.flush()
        return file


def _visible(project_id: str) -> Select[File]:
    return select(File).where(
        File.project_id == project_id,
        File.deleted_at.is_(None),
        or_(File.expires_at.is_(None), File.expires_at > database_now()),
    )
