"""The pipeline's stages and the artifacts they hand to each other."""

from enum import StrEnum
from typing import Final


class Stage(StrEnum):
    """The units of the worker's plan, in the order in which they run."""

    VALIDATE_DATASET = "validate_dataset"
    ADOPT_TRAINING = "adopt_training"
    SCREEN_DATASET = "screen_dataset"
    PREPARE_BASE_MODEL = "prepare_base_model"
    ATTRIBUTE_ROWS = "attribute_rows"
    FINE_TUNE = "fine_tune"
    PERTURB = "perturb"
    PACKAGE = "package"
    EVALUATE = "evaluate"
    EVALUATE_PROMPTS = "evaluate_prompts"
    ANALYSE = "analyse"
    GATE = "gate"
    VERIFY_ARCHIVE = "verify_archive"
    RELEASE_CHECKPOINT = "release_checkpoint"
    RELEASE = "release"


class ArtifactName(StrEnum):
    """The files stages write; the value is the last part of the storage key."""

    TRAINING_ROWS = "training_rows.jsonl"
    VALIDATION_ROWS = "validation_rows.jsonl"
    SCREENING = "screening.json"
    BASE_MODEL = "base_model.json"
    ATTRIBUTION = "attribution.json"
    TRAINING_STATE = "training_state.safetensors"
    TRAINED_ADAPTER = "trained_adapter.safetensors"
    TRAINING = "training.json"
    LAST_PROBE = "last_probe.safetensors"
    METRICS = "metrics.csv"
    PERTURBATION = "perturbation.safetensors"
    STRENGTH = "strength.json"
    PACKAGE = "package.tar"
    PROBE_LOGITS = "probe_logits.safetensors"
    LAYER_AFFINITY = "layer_affinity.json"
    EVALUATION = "evaluation.json"
    ANSWERS = "answers.jsonl"
    PROMPTS_EVALUATION = "prompts_evaluation.json"
    ANALYSES = "analyses.json"
    ARCHIVE = "adapter.tar"
    REPORT = "report.json"
    ARCHIVE_CHECK = "archive_check.json"
    CHECKPOINT = "checkpoint.json"


# What each snapshot of the adapter has of its own; the rest is the job's.
SNAPSHOT_ARTIFACTS: Final = frozenset(
    {
        ArtifactName.TRAINED_ADAPTER,
        ArtifactName.TRAINING,
        ArtifactName.LAST_PROBE,
        ArtifactName.PERTURBATION,
        ArtifactName.STRENGTH,
        ArtifactName.PACKAGE,
        ArtifactName.PROBE_LOGITS,
        ArtifactName.LAYER_AFFINITY,
        ArtifactName.EVALUATION,
        ArtifactName.ANSWERS,
        ArtifactName.ARCHIVE,
        ArtifactName.REPORT,
        ArtifactName.ARCHIVE_CHECK,
        ArtifactName.CHECKPOINT,
    }
)

# What each snapshot takes, and then the final adapter.
ADAPTER_STAGES: Final = frozenset(
    {Stage.PERTURB, Stage.PACKAGE, Stage.EVALUATE, Stage.GATE, Stage.VERIFY_ARCHIVE}
)


def times_run(stage: Stage, snapshots: int) -> int:
    """Tell how often a job that keeps so many snapshots runs a stage."""
    if stage is Stage.RELEASE_CHECKPOINT:
        return snapshots
    return snapshots + 1 if stage in ADAPTER_STAGES else 1
