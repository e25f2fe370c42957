"""Tuned models and checkpoints as the beginning of another job."""

from sqlalchemy.orm import Session

from core.job_spec import Hyperparameters, JobSpec, ParentModel
from core.model_registry import AlignedAdapter, ModelEntry, ModelRegistry
from core.released_models import find_released_model


def find_parent(
    session: Session, project_id: str, registry: ModelRegistry, model: str
) -> tuple[ModelEntry, ParentModel]:
    """Find a tuned model or checkpoint, and its base model as a job that continues it sees it.

    Raises:
        NotFoundError: There is none that this project may use, its adapter was deleted, or its
            base model is no longer offered.
    """
    found = find_released_model(session, project_id, model)
    spec = JobSpec.model_validate(found.job.spec)
    entry = _continued_entry(registry.get(spec.model), spec.hyperparameters)
    archive = found.archive
    parent = ParentModel(
        model=model, job_id=found.job.id, file_id=archive.id, sha256=archive.sha256
    )
    return entry, parent


def _continued_entry(entry: ModelEntry, parent: Hyperparameters) -> ModelEntry:
    """Describe a base model to a job that continues a tuned model on it.

    The tuned model's adapter stands in the aligned one's place, and its shape is the default.
    """
    shape = {"rank": parent.lora_rank, "target_modules": parent.target_modules}
    aligned = AlignedAdapter(source=entry.source, **shape)
    lora = entry.lora.model_copy(update={**shape, "alpha": parent.lora_alpha})
    return entry.model_copy(update={"lora": lora, "aligned_adapter": aligned})
