"""Putting jobs and events on the wire."""

from datetime import datetime
from typing import Any

from api.fine_tuning.outlook import Outlook, show_kept_estimate, show_progress
from api.fine_tuning.schemas import (
    CheckpointsObject,
    DefenseObject,
    DpoMethod,
    DpoMethodObject,
    FineTuningJob,
    FineTuningJobEvent,
    JobErrorObject,
    SupervisedMethod,
    SupervisedMethodObject,
)
from api.follow_ups.schemas import show_follow_up
from core.job_spec import DpoHyperparameters, JobSpec
from core.models import Job, JobEvent
from core.models.base import Json
from defense.catalog import DEFENSES
from defense.job_defense import FOLLOWED_BY


def show_job(job: Job, outlook: Outlook) -> FineTuningJob:
    """Show a job as its owner sees it."""
    spec = JobSpec.model_validate(job.spec)
    defense = _in_order(spec.defense)
    options = {name: value for name, value in defense.items() if name != "type"}
    return FineTuningJob(
        id=job.id,
        created_at=int(job.created_at.timestamp()),
        finished_at=_seconds(job.finished_at),
        status=job.status,
        cancel_requested_at=_seconds(job.cancel_requested_at),
        pause_requested_at=_seconds(job.pause_requested_at),
        error=None if job.error is None else JobErrorObject.model_validate(job.error),
        model=job.model,
        fine_tuned_model=job.fine_tuned_model,
        organization_id=job.project_id,
        training_file=job.training_file,
        validation_file=job.validation_file,
        result_files=job.result_file_ids,
        hyperparameters=spec.hyperparameters if spec.method == "supervised" else None,
        method=_method(spec, defense),
        seed=job.seed,
        trained_tokens=job.trained_tokens,
        estimated_finish=outlook.finish(job),
        metadata=job.job_metadata,
        user_provided_suffix=job.suffix,
        progress=show_progress(job),
        estimate=show_kept_estimate(job),
        queue=outlook.queue(job),
        defense=DefenseObject(name=str(spec.defense["type"]), params=options),
        follow_up=show_follow_up(spec.follow_up),
        safety=job.safety,
    )


def _method(spec: JobSpec, defense: Json) -> SupervisedMethod | DpoMethod:
    asked: dict[str, Any] = {
        "defense": defense,
        "initial_adapter": spec.initial_adapter and spec.initial_adapter.file_id,
        "screening": spec.screening,
        "checkpoints": CheckpointsObject(keep=spec.checkpoints),
    }
    if isinstance(spec.hyperparameters, DpoHyperparameters):
        return DpoMethod(dpo=DpoMethodObject(hyperparameters=spec.hyperparameters, **asked))
    return SupervisedMethod(
        supervised=SupervisedMethodObject(hyperparameters=spec.hyperparameters, **asked)
    )


def _in_order(defense: Json) -> Json:
    """Put a defense's options in the order in which it declares them; Postgres keeps none."""
    declared = DEFENSES[str(defense["type"])].config_class.model_fields
    ordered = {name: defense[name] for name in ("type", *declared) if name in defense} | defense
    if FOLLOWED_BY in ordered:
        ordered[FOLLOWED_BY] = _in_order(ordered[FOLLOWED_BY])
    return ordered


def show_event(event: JobEvent) -> FineTuningJobEvent:
    """Show one line of a job's history."""
    return FineTuningJobEvent(
        id=event.id,
        created_at=int(event.created_at.timestamp()),
        level=event.level,
        message=event.message,
        type=event.type,
        data=event.data,
    )


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
