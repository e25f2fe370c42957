import pytest
from sqlalchemy.exc import IntegrityError

from core.database import Database
from core.errors import InvalidRequestError, NotFoundError
from core.models import File, FileKind, FileStatus
from core.repositories.files import FileRepository
from core.storage.protocol import StoredObject
from tests.integration.core.builders import (
    ARCHIVE_SHA256,
    Tenant,
    add_job,
    add_project,
    add_tenant,
    add_upload,
    claim,
    decide,
)

REPORT = {"rows": 1, "usable_rows": 0, "error_count": 1}


@pytest.fixture
def tenant(clean_database: Database) -> Tenant:
    return add_tenant(clean_database)


def archive(job_id: str, sha256: str = ARCHIVE_SHA256) -> StoredObject:
    return StoredObject(f"released/{job_id}/1/adapter.tar", sha256, 7)


def add_archive(database: Database, tenant: Tenant, job_id: str, sha256: str) -> File:
    with database.session() as session:
        return FileRepository(session).add_result(
            tenant.project_id,
            job_id=job_id,
            kind=FileKind.ADAPTER_ARCHIVE,
            filename="adapter.tar",
            stored=archive(job_id, sha256),
        )


def test_an_upload_belongs_to_its_project_alone(clean_database: Database, tenant: Tenant) -> None:
    stranger = add_tenant(clean_database, "stranger")

    with clean_database.session() as session:
        files = FileRepository(session)
        file = files.get(tenant.project_id, tenant.file_id)
        assert (file.kind, file.status, file.bytes) == (FileKind.UPLOAD, FileStatus.UPLOADED, 4)
        assert files.get_for_worker(tenant.file_id) is file
        for attempt in (files.get, files.mark_deleted):
            with pytest.raises(NotFoundError):
                attempt(stranger.project_id, tenant.file_id)
        with pytest.raises(NotFoundError):
            files.set_validation(
                stranger.project_id, tenant.file_id, status=FileStatus.ERROR, report=REPORT
            )


def test_what_reading_the_rows_has_shown_is_kept(clean_database: Database, tenant: Tenant) -> None:
    with clean_database.session() as session:
        FileRepository(session).set_validation(
            tenant.project_id, tenant.file_id, status=FileStatus.ERROR, report=REPORT
        )

    with clean_database.session() as session:
        file = FileRepository(session).get(tenant.project_id, tenant.file_id)
    assert (file.status, file.validation) == (FileStatus.ERROR, REPORT)


def test_a_deleted_file_is_hidden_everywhere(clean_database: Database, tenant: Tenant) -> None:
    with clean_database.session() as session:
        FileRepository(session).mark_deleted(tenant.project_id, tenant.file_id)

    with clean_database.session() as session:
        files = FileRepository(session)
        with pytest.raises(NotFoundError):
            files.get(tenant.project_id, tenant.file_id)
        assert files.list_page(tenant.project_id).items == []
        assert files.get_for_worker(tenant.file_id) is None


def test_files_are_listed_page_by_page_newest_first(clean_database: Database) -> None:
    with clean_database.session() as session:
        project_id = add_project(session, "pages").id
    ids = []
    for _ in range(3):
        with clean_database.session() as session:
            ids.append(add_upload(session, project_id).id)

    with clean_database.session() as session:
        files = FileRepository(session)
        first = files.list_page(project_id, limit=2)
        second = files.list_page(project_id, after=ids[1], limit=2)
        results = files.list_page(project_id, purpose="fine-tune-results")
        with pytest.raises(InvalidRequestError) as caught:
            files.list_page(project_id, after="file-unknown")

    assert ([file.id for file in first.items], first.has_more) == ([ids[2], ids[1]], True)
    assert ([file.id for file in second.items], second.has_more) == ([ids[0]], False)
    assert results.items == []
    assert caught.value.param == "after"


def test_a_release_that_was_cut_short_can_be_repeated(
    clean_database: Database, tenant: Tenant
) -> None:
    job = add_job(clean_database, tenant)
    held = claim(clean_database)
    with clean_database.session() as session:
        decide(session, held)

    first = add_archive(clean_database, tenant, job.id, ARCHIVE_SHA256)
    again = add_archive(clean_database, tenant, job.id, ARCHIVE_SHA256)

    assert first.id == again.id
    assert (first.purpose, first.status) == ("fine-tune-results", FileStatus.PROCESSED)


def test_other_bytes_cannot_take_the_place_of_a_released_file(
    clean_database: Database, tenant: Tenant
) -> None:
    job = add_job(clean_database, tenant)
    held = claim(clean_database)
    with clean_database.session() as session:
        decide(session, held)
        decide(session, held, sha256="0" * 64)
    add_archive(clean_database, tenant, job.id, ARCHIVE_SHA256)

    with pytest.raises(IntegrityError):
        add_archive(clean_database, tenant, job.id, "0" * 64)
