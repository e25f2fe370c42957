"""Tuned models as the beginning of another job."""

from sqlalchemy.orm import Session

from core.errors import NotFoundError
from core.job_spec import JobSpec, ParentModel, continued_entry
from core.model_registry import ModelEntry, ModelRegistry
from core.models import FileKind
from core.repositories.files import FileRepository
from core.repositories.jobs import JobRepository


def find_parent(
    session: Session, project_id: str, registry: ModelRegistry, model: str
) -> tuple[ModelEntry, ParentModel]:
    """Find an own tuned model, and its base model as a job that continues it sees it.

    Raises:
        NotFoundError: There is no such model in this project, its adapter was deleted, or its
            base model is no longer offered.
    """
    job = JobRepository(session).find_by_model(project_id, model)
    files = FileRepository(session)
    archives = [
        file
        for file in map(files.get_for_worker, job.result_file_ids if job else ())
        if file is not None and file.kind is FileKind.ADAPTER_ARCHIVE
    ]
    if job is None or not archives:
        raise NotFoundError(
            "There is no such model.",
            param="model",
            hint="GET /v1/models lists what can be fine-tuned.",
        )
    spec = JobSpec.model_validate(job.spec)
    entry = continued_entry(registry.get(spec.model), spec.hyperparameters)
    archive = archives[0]
    parent = ParentModel(model=model, job_id=job.id, file_id=archive.id, sha256=archive.sha256)
    return entry, parent
