"""The base model of a job: the same weights in every stage, whichever machine runs it."""

from pathlib import Path

from core.errors import JobFailedError
from core.job_state import JobErrorCode
from core.model_registry import Source, SourceKind
from core.stages import ArtifactName
from worker.base_models import LoadedModel
from worker.trainer_tools import TrainerContext


def recorded_base_model(context: TrainerContext) -> LoadedModel:
    """Give the warm base model, if it is the one that the job began with.

    Raises:
        JobFailedError: This worker has other weights under the model's name.
    """
    check_base_model(context)
    return context.tools.base_models.warm(context.entry)


def check_base_model(context: TrainerContext) -> None:
    """Compare this worker's weights with those that `prepare_base_model` recorded.

    Raises:
        JobFailedError: They are others.
    """
    recorded = context.workspace.read_json(ArtifactName.BASE_MODEL)["weights_sha256"]
    if context.tools.base_models.prepare(context.entry).weights_sha256 != recorded:
        raise JobFailedError(
            "The base model has changed since the job began.",
            code=JobErrorCode.BASE_MODEL_CHANGED,
            hint="Create the job again.",
        )


def public_source(source: Source) -> str:
    """Name a source to a tenant: as the operator wrote it, but of a path the last name alone."""
    if source.kind is SourceKind.PATH:
        return f"{source.kind}:{Path(source.location).name}"
    return str(source)
