"""Removes what is past its `expires_at`: files that were given a lifetime, unfinished uploads.

The bytes go first and the row is marked afterwards, so a crash between the two is repeated. The
gateway hides an expired file at once; a job that was created in time still reads it to its end.

Parts of an upload that has ended are removed too, should the gateway have died before doing so. An
upload that this database does not know is left alone: the address may be the wrong one.
"""

from datetime import timedelta
from typing import Final

import structlog

from core.database import Database
from core.errors import TunewardError
from core.models import UploadStatus
from core.repositories.files import FileRepository
from core.repositories.uploads import UploadRepository
from core.storage.protocol import PARTS, ArtifactStorage, parts_folder

# A job that is created in the file's last second commits within this time.
FILE_GRACE: Final = timedelta(minutes=2)
# A completion that began in the upload's last second has copied and checked its rows by then.
UPLOAD_GRACE: Final = timedelta(minutes=30)

_log = structlog.get_logger(__name__)


class Expired:
    """Finds and removes what has expired; any number of processes may do so at once.

    Args:
        database: Knows what expires when, by its own clock.
        storage: Holds the bytes.
    """

    def __init__(self, database: Database, storage: ArtifactStorage) -> None:
        self._database = database
        self._storage = storage

    def try_to_remove(self) -> int:
        """Remove what can be removed now; a fault of storage or database is for the next time."""
        try:
            return self.remove_files() + self.remove_parts()
        except (OSError, TunewardError):
            _log.warning("expired_remains", exc_info=True)
            return 0

    def remove_files(self) -> int:
        """Remove files that no unfinished job reads; tell how many."""
        with self._database.session() as session:
            files = FileRepository(session).list_expired(FILE_GRACE)
        for file in files:
            self._storage.delete(file.storage_key)
            with self._database.session() as session:
                FileRepository(session).mark_expired(file.id)
            _log.info("file_expired", file_id=file.id)
        return len(files)

    def remove_parts(self) -> int:
        """Remove the parts of uploads that have ended; tell of how many uploads."""
        with self._database.session() as session:
            UploadRepository(session).expire(UPLOAD_GRACE)
        count = 0
        for upload_id in sorted({key.split("/")[1] for key in self._storage.list_keys(PARTS)}):
            with self._database.session() as session:
                status = UploadRepository(session).status_for_worker(upload_id)
            if status not in {None, UploadStatus.PENDING}:
                self._storage.delete_prefix(parts_folder(upload_id))
                _log.info("parts_removed", upload_id=upload_id)
                count += 1
        return count
