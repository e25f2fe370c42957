"""Announcing an upload, taking its parts, and calling it off; `completion` joins the parts."""

from collections.abc import AsyncIterator
from typing import Final

from fastapi.concurrency import contextmanager_in_threadpool
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from api.files.filenames import display_name
from api.files.multipart import UploadReader
from api.state import GatewayState
from api.uploads.schemas import (
    UploadCreate,
    UploadObject,
    UploadPartObject,
    show_part,
    show_upload,
)
from core.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PayloadTooLargeError,
    RequestErrorCode,
)
from core.ids import new_id
from core.models import Upload, UploadStatus
from core.quotas import QuotaKeeper
from core.repositories.uploads import UploadRepository
from core.settings import Settings
from core.storage.protocol import ArtifactStorage, StoredObject, part_key, parts_folder

PART_FIELD: Final = "data"
# The stock client sends a part up to three times when answers get lost.
_SENDINGS: Final = 3


def create(
    session: Session, settings: Settings, project_id: str, request: UploadCreate
) -> UploadObject:
    """Announce a file.

    Raises:
        PayloadTooLargeError: It is larger than allowed.
        QuotaExceededError: The project may not store it.
    """
    limit = settings.max_upload_in_parts_bytes
    if request.bytes > limit:
        raise PayloadTooLargeError(f"The file is larger than {limit} bytes.", param="bytes")
    QuotaKeeper(session, project_id, settings).admit_file(request.bytes, 0)
    expires_after = request.expires_after
    upload = UploadRepository(session).add(
        project_id,
        filename=display_name(request.filename),
        purpose=request.purpose,
        size=request.bytes,
        file_lifetime=None if expires_after is None else expires_after.lifetime,
        lifetime=settings.upload_lifetime,
    )
    return show_upload(upload)


async def add_part(
    state: GatewayState,
    project_id: str,
    upload_id: str,
    *,
    content_type: str,
    chunks: AsyncIterator[bytes],
) -> UploadPartObject:
    """Stream a part to storage and record it; on any error nothing stays.

    Raises:
        ConflictError: The upload takes no more parts.
        InvalidRequestError: The form is malformed, or there are too many bytes already.
        NotFoundError: There is no such upload.
        PayloadTooLargeError: The part is larger than the limit.
    """
    await run_in_threadpool(_check_open, state, project_id, upload_id)
    part_id = new_id("part")
    key = part_key(upload_id, part_id)
    async with contextmanager_in_threadpool(state.storage.writer(key)) as writer:
        reader = UploadReader(
            content_type,
            writer,
            max_file_bytes=state.settings.max_part_bytes,
            file_field=PART_FIELD,
        )
        form = await reader.read(chunks)
        if form.fields:
            raise InvalidRequestError(
                "The form has an unknown field.", code=RequestErrorCode.UNSUPPORTED_PARAMETER
            )
    return await run_in_threadpool(_record, state, project_id, upload_id, part_id, writer.stored)


def _check_open(state: GatewayState, project_id: str, upload_id: str) -> None:
    with state.database.session() as session:
        find_open(session, project_id, upload_id)


def _record(
    state: GatewayState, project_id: str, upload_id: str, part_id: str, stored: StoredObject
) -> UploadPartObject:
    try:
        with state.database.session() as session:
            upload = find_open(session, project_id, upload_id)
            uploads = UploadRepository(session)
            _check_room(uploads, upload, stored.bytes)
            part = uploads.add_part(upload, part_id, storage_key=stored.key, size=stored.bytes)
        return show_part(part)
    except BaseException:
        state.storage.delete(stored.key)
        raise


def _check_room(uploads: UploadRepository, upload: Upload, size: int) -> None:
    if uploads.part_bytes(upload) + size > _SENDINGS * upload.bytes:
        raise InvalidRequestError(
            "The parts have far more bytes than the upload has announced.",
            param=PART_FIELD,
            code=RequestErrorCode.INVALID_VALUE,
            hint="Complete the upload, or cancel it.",
        )


def cancel(session: Session, project_id: str, upload_id: str) -> UploadObject:
    """Call an upload off; doing so again changes nothing.

    Raises:
        ConflictError: It is completed or expired.
        NotFoundError: There is no such upload.
    """
    upload = find(session, project_id, upload_id)
    if upload.status is not UploadStatus.CANCELLED:
        check_open(session, upload)
        UploadRepository(session).close(upload, UploadStatus.CANCELLED)
    return show_upload(upload)


def remove_parts(storage: ArtifactStorage, upload_id: str) -> None:
    """Remove the bytes of all parts, once the upload's end is committed."""
    storage.delete_prefix(parts_folder(upload_id))


def find_open(session: Session, project_id: str, upload_id: str) -> Upload:
    """Find an upload that takes parts, and hold it."""
    upload = find(session, project_id, upload_id)
    check_open(session, upload)
    return upload


def check_open(session: Session, upload: Upload) -> None:
    """Refuse an upload that is at its end, whatever end."""
    if not UploadRepository(session).takes_parts(upload):
        raise not_pending(upload)


def not_pending(upload: Upload) -> ConflictError:
    """Say how an upload has ended."""
    is_over = upload.status is UploadStatus.PENDING
    return ConflictError(
        f"The upload is {UploadStatus.EXPIRED if is_over else upload.status}.",
        param="upload_id",
        code=RequestErrorCode.UPLOAD_NOT_PENDING,
        hint="Create another one.",
    )


def find(session: Session, project_id: str, upload_id: str) -> Upload:
    """Find an upload and hold it."""
    try:
        return UploadRepository(session).get(project_id, upload_id)
    except NotFoundError:
        raise NotFoundError("There is no such upload.", param="upload_id") from None
