"""The stages in their order: what each reads and writes, and in which process it runs.

The table imports no stage, because the process that walks it must not import torch; a test
compares it with the `NAME`, `READS` and `WRITES` of every stage module.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from core.follow_up import TAKEN_OVER
from core.job_spec import JobSpec
from core.job_stages import stages_of
from core.stages import ArtifactName, Stage


class Place(StrEnum):
    """Where a stage runs."""

    TRAINER = "trainer"  # holds the device; tensors in, files out
    SUPERVISOR = "supervisor"  # beside the database; imports no torch


class Subject(StrEnum):
    """What a stage runs for, and so how often."""

    JOB = "job"  # once, before there is an adapter
    ADAPTER = "adapter"  # for each snapshot that is kept, then for the final adapter
    SNAPSHOT = "snapshot"  # for each snapshot that is kept
    FINAL = "final"  # once, for the final adapter and the whole job


@dataclass(frozen=True)
class PlannedStage:
    """One unit of the plan.

    Attributes:
        name: The stage; its module has the same name.
        reads: Artifacts that must be in the workspace before it runs.
        writes: Artifacts that it leaves; if all are published, the stage is skipped.
        place: The process it runs in.
        sentence: What a client reads when it begins.
        subject: What it runs for.
        reads_uploads: Whether the user's files must be in the workspace too.
        reads_parent: Whether the tuned model or the adapter that the job continues must be, too.
        reads_origin: Whether what the training of a follow-up job's origin has left must be, too.
        reads_prompts: Whether the project's own prompts must be in the workspace.
        reads_if_there: Artifacts that it uses where a stage of the job has written them.
        state: What the stage saves while it runs, to go on from in another attempt.
        takes_snapshots: Whether it leaves, of each snapshot it takes, what `SNAPSHOT_WRITES` names.
    """

    name: Stage
    reads: tuple[ArtifactName, ...]
    writes: tuple[ArtifactName, ...]
    place: Place
    sentence: str
    subject: Subject = Subject.ADAPTER
    reads_uploads: bool = False
    reads_parent: bool = False
    reads_origin: bool = False
    reads_prompts: bool = False
    reads_if_there: tuple[ArtifactName, ...] = ()
    state: ArtifactName | None = None
    takes_snapshots: bool = False


SNAPSHOT_WRITES: Final = (
    ArtifactName.TRAINED_ADAPTER,
    ArtifactName.LAST_PROBE,
    ArtifactName.TRAINING,
)

PLAN: Final = (
    PlannedStage(
        Stage.VALIDATE_DATASET,
        (),
        (ArtifactName.TRAINING_ROWS, ArtifactName.VALIDATION_ROWS),
        Place.TRAINER,
        "Checking the rows with the model's tokenizer.",
        Subject.JOB,
        reads_uploads=True,
    ),
    PlannedStage(
        Stage.ADOPT_TRAINING,
        (),
        TAKEN_OVER,
        Place.SUPERVISOR,
        "Taking over what training has left.",
        Subject.JOB,
        reads_origin=True,
    ),
    PlannedStage(
        Stage.SCREEN_DATASET,
        (ArtifactName.TRAINING_ROWS, ArtifactName.VALIDATION_ROWS),
        (ArtifactName.SCREENING,),
        Place.TRAINER,
        "Scoring the rows with the moderation classifier.",
        Subject.JOB,
    ),
    PlannedStage(
        Stage.PREPARE_BASE_MODEL,
        (),
        (ArtifactName.BASE_MODEL,),
        Place.TRAINER,
        "Preparing the base model.",
        Subject.JOB,
    ),
    PlannedStage(
        Stage.ATTRIBUTE_ROWS,
        (ArtifactName.TRAINING_ROWS, ArtifactName.SCREENING, ArtifactName.BASE_MODEL),
        (ArtifactName.ATTRIBUTION,),
        Place.TRAINER,
        "Ranking the rows by how far they pull the model towards harm.",
        Subject.JOB,
        reads_parent=True,
    ),
    PlannedStage(
        Stage.FINE_TUNE,
        (
            ArtifactName.TRAINING_ROWS,
            ArtifactName.VALIDATION_ROWS,
            ArtifactName.SCREENING,
            ArtifactName.BASE_MODEL,
        ),
        (
            ArtifactName.TRAINED_ADAPTER,
            ArtifactName.LAST_PROBE,
            ArtifactName.TRAINING,
            ArtifactName.METRICS,
        ),
        Place.TRAINER,
        "Fine-tuning started.",
        Subject.JOB,
        reads_parent=True,
        state=ArtifactName.TRAINING_STATE,
        takes_snapshots=True,
    ),
    PlannedStage(
        Stage.PERTURB,
        (
            ArtifactName.TRAINING_ROWS,
            ArtifactName.VALIDATION_ROWS,
            ArtifactName.SCREENING,
            ArtifactName.BASE_MODEL,
            ArtifactName.TRAINED_ADAPTER,
            ArtifactName.LAST_PROBE,
        ),
        (ArtifactName.PERTURBATION, ArtifactName.STRENGTH),
        Place.TRAINER,
        "Building the safety perturbation.",
        reads_parent=True,
    ),
    PlannedStage(
        Stage.PACKAGE,
        (
            ArtifactName.BASE_MODEL,
            ArtifactName.TRAINED_ADAPTER,
            ArtifactName.PERTURBATION,
            ArtifactName.STRENGTH,
        ),
        (ArtifactName.PACKAGE, ArtifactName.PROBE_LOGITS, ArtifactName.LAYER_AFFINITY),
        Place.TRAINER,
        "Packaging the guarded adapter.",
    ),
    PlannedStage(
        Stage.EVALUATE,
        (
            ArtifactName.TRAINING_ROWS,
            ArtifactName.VALIDATION_ROWS,
            ArtifactName.SCREENING,
            ArtifactName.BASE_MODEL,
            ArtifactName.TRAINED_ADAPTER,
            ArtifactName.TRAINING,
            ArtifactName.PACKAGE,
        ),
        (ArtifactName.EVALUATION, ArtifactName.ANSWERS),
        Place.TRAINER,
        "Evaluating the base, tuned and guarded models.",
        reads_parent=True,
    ),
    PlannedStage(
        Stage.EVALUATE_PROMPTS,
        (
            ArtifactName.BASE_MODEL,
            ArtifactName.TRAINED_ADAPTER,
            ArtifactName.PACKAGE,
        ),
        (ArtifactName.PROMPTS_EVALUATION,),
        Place.TRAINER,
        "Asking all models the project's own prompts.",
        Subject.FINAL,
        reads_prompts=True,
    ),
    PlannedStage(
        Stage.ANALYSE,
        (
            ArtifactName.BASE_MODEL,
            ArtifactName.TRAINED_ADAPTER,
            ArtifactName.PERTURBATION,
            ArtifactName.STRENGTH,
        ),
        (ArtifactName.ANALYSES,),
        Place.TRAINER,
        "Making the analyses that were asked for.",
        Subject.FINAL,
    ),
    PlannedStage(
        Stage.GATE,
        (
            ArtifactName.BASE_MODEL,
            ArtifactName.SCREENING,
            ArtifactName.ATTRIBUTION,
            ArtifactName.TRAINING,
            ArtifactName.STRENGTH,
            ArtifactName.PACKAGE,
            ArtifactName.LAYER_AFFINITY,
            ArtifactName.EVALUATION,
        ),
        (ArtifactName.ARCHIVE, ArtifactName.REPORT),
        Place.SUPERVISOR,
        "Deciding whether the adapter may be released.",
        reads_if_there=(ArtifactName.PROMPTS_EVALUATION, ArtifactName.ANALYSES),
    ),
    PlannedStage(
        Stage.VERIFY_ARCHIVE,
        (
            ArtifactName.BASE_MODEL,
            ArtifactName.TRAINED_ADAPTER,
            ArtifactName.PERTURBATION,
            ArtifactName.STRENGTH,
            ArtifactName.ARCHIVE,
            ArtifactName.PROBE_LOGITS,
        ),
        (ArtifactName.ARCHIVE_CHECK,),
        Place.TRAINER,
        "Loading the archive on a fresh base model to compare it with the evaluated one.",
    ),
    PlannedStage(
        Stage.RELEASE_CHECKPOINT,
        (
            ArtifactName.TRAINING,
            ArtifactName.ARCHIVE,
            ArtifactName.ARCHIVE_CHECK,
            ArtifactName.REPORT,
        ),
        (ArtifactName.CHECKPOINT,),
        Place.SUPERVISOR,
        "Publishing it, if the gate lets it.",
        Subject.SNAPSHOT,
    ),
    PlannedStage(
        Stage.RELEASE,
        (
            ArtifactName.TRAINING,
            ArtifactName.ARCHIVE,
            ArtifactName.ARCHIVE_CHECK,
            ArtifactName.METRICS,
            ArtifactName.REPORT,
            ArtifactName.ANSWERS,
        ),
        (),
        Place.SUPERVISOR,
        "Publishing the results.",
        Subject.FINAL,
    ),
)


def plan_of(spec: JobSpec) -> tuple[PlannedStage, ...]:
    """Give the stages that a job takes, in their order."""
    taken = stages_of(spec)
    return tuple(stage for stage in PLAN if stage.name in taken)


def stages_for(plan: tuple[PlannedStage, ...], *subjects: Subject) -> tuple[PlannedStage, ...]:
    """Pick the stages of a plan that run for any of these, in their order."""
    return tuple(stage for stage in plan if stage.subject in subjects)


def turns(plan: tuple[PlannedStage, ...], snapshots: int) -> list[tuple[Stage, int]]:
    """Give every run of every stage of a plan in its order, with its turn among the adapters."""
    each, end = (
        stages_for(plan, Subject.ADAPTER, Subject.SNAPSHOT),
        stages_for(plan, Subject.ADAPTER, Subject.FINAL),
    )
    return [
        *((stage.name, 0) for stage in stages_for(plan, Subject.JOB)),
        *((stage.name, turn) for turn in range(snapshots) for stage in each),
        *((stage.name, snapshots) for stage in end),
    ]
