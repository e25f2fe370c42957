"""What a follow-up job needs from elsewhere: the training of another, and prompts."""

from core.errors import JobFailedError
from core.follow_up import TAKEN_OVER, PromptsFile
from core.job_state import JobErrorCode
from core.repositories.artifacts import ArtifactRepository
from core.repositories.files import FileRepository
from worker.artifact_exchange import ArtifactExchange
from worker.journal import JobJournal


def fetch_origin(journal: JobJournal, exchange: ArtifactExchange, job_id: str) -> None:
    """Bring what the training of a job has left.

    Raises:
        JobFailedError: It is no longer kept.
    """
    kept = journal.read(lambda session: ArtifactRepository(session).list_for_worker(job_id))
    if not kept.keys() >= set(TAKEN_OVER):
        raise JobFailedError(
            f"What the training of {job_id} has left is no longer kept.",
            code=JobErrorCode.ORIGIN_UNAVAILABLE,
            param="fine_tuning_job_id",
            hint="Create that job again.",
        )
    exchange.fetch_origin({name: kept[name] for name in TAKEN_OVER})


def fetch_prompts(journal: JobJournal, exchange: ArtifactExchange, prompts: PromptsFile) -> None:
    """Bring the file of the project's own prompts.

    Raises:
        JobFailedError: It was deleted.
    """
    file = journal.read(lambda session: FileRepository(session).get_for_worker(prompts.file_id))
    if file is None:
        raise JobFailedError(
            "The file of prompts no longer exists.",
            code=JobErrorCode.INVALID_PROMPTS,
            param="prompts",
        )
    exchange.fetch_prompts(file, prompts.sha256)
