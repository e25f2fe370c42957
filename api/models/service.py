"""What can be fine-tuned, and what has been."""

from sqlalchemy.orm import Session

from api.models.schemas import ModelObject
from api.pagination import ListPage, list_page
from core.errors import ConflictError, NotFoundError, PermissionDeniedError, RequestErrorCode
from core.model_registry import ModelEntry, ModelRegistry
from core.models import FileKind, Job
from core.repositories.files import FileRepository
from core.repositories.job_queue import JobQueueRepository
from core.repositories.jobs import JobRepository
from core.repositories.pagination import Page


def list_models(
    session: Session, registry: ModelRegistry, project_id: str
) -> ListPage[ModelObject]:
    """Show the base models, then the project's tuned ones, newest first."""
    base = [_show_base(entry) for entry in registry]
    tuned = [_show_tuned(job) for job in JobRepository(session).list_succeeded(project_id)]
    return list_page(Page(items=base + tuned, has_more=False), lambda model: model)


def retrieve(session: Session, registry: ModelRegistry, project_id: str, model: str) -> ModelObject:
    """Show one model.

    Raises:
        NotFoundError: Neither a base model nor one of the project's tuned ones.
    """
    if model in registry:
        return _show_base(registry.get(model))
    return _show_tuned(_find_tuned(session, project_id, model))


def delete(session: Session, registry: ModelRegistry, project_id: str, model: str) -> list[str]:
    """Hide a tuned model and its archive for good; return the storage keys of the archive.

    Raises:
        ConflictError: A job that is not finished continues the model.
        NotFoundError: Neither a base model nor one of the project's tuned ones.
        PermissionDeniedError: A base model, which belongs to the operator.
    """
    if model in registry:
        raise PermissionDeniedError(
            "A base model cannot be deleted.", param="model", code=RequestErrorCode.BASE_MODEL
        )
    job = _find_tuned(session, project_id, model)
    JobRepository(session).mark_model_deleted(project_id, job.id)
    files = FileRepository(session)
    archives = files.list_results(project_id, job.id, FileKind.ADAPTER_ARCHIVE)
    for archive in archives:
        if JobQueueRepository(session).needs_file(project_id, archive.id):
            raise ConflictError(
                "A job that is not finished continues this model.",
                param="model",
                code=RequestErrorCode.FILE_IN_USE,
                hint="Wait for the job, or cancel it.",
            )
        files.mark_deleted(project_id, archive.id)
    return [archive.storage_key for archive in archives]


def _find_tuned(session: Session, project_id: str, model: str) -> Job:
    job = JobRepository(session).find_by_model(project_id, model)
    if job is None:
        raise NotFoundError(
            "There is no such model.", param="model", code=RequestErrorCode.MODEL_NOT_FOUND
        )
    return job


def _show_base(entry: ModelEntry) -> ModelObject:
    return ModelObject(
        id=entry.id, created=entry.created, owned_by=entry.owned_by, licence=entry.licence
    )


def _show_tuned(job: Job) -> ModelObject:
    assert job.fine_tuned_model is not None  # noqa: S101 - the table refuses a success without
    assert job.finished_at is not None  # noqa: S101
    return ModelObject(
        id=job.fine_tuned_model,
        created=int(job.finished_at.timestamp()),
        owned_by=job.project_id,
        base_model=job.spec["model"],
        parent_model=(job.spec.get("parent") or {}).get("model"),
        fine_tuning_job=job.id,
    )
