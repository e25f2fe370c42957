"""Stage `fine_tune`: train the adapter on the user's rows, guarded if the job's defense guards.

What of the rows is learned is the lesson's to know: answers, or which of two is better. Goes on
from the state that an earlier attempt has saved, if there is one (`training_states`).
Writes the trained adapter without any perturbation, the guard's last probe (empty unless the
job reuses it), what training was, and its metrics as OpenAI's table with columns of our own. Of
each snapshot that the job keeps it writes the first three likewise.
"""

import csv
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from peft import PeftModel

from core.stages import ArtifactName, Stage
from defense.errors import UnusableStateError
from defense.protocols import StepMetrics, Training
from defense.training.adapter_files import write_tensors
from defense.training.loop import TrainingPlan
from defense.training.lora import adapter_state, load_adapter_state
from defense.training.snapshots import EpochSnapshots, Snapshot
from defense.training.training_state import Resumption, TrainingState
from worker.pipeline.adapted_model import adapted_model, continued_adapter, lora_settings
from worker.pipeline.base_model import recorded_base_model
from worker.pipeline.context import Reporter
from worker.pipeline.defender_rows import prepare_method
from worker.pipeline.guard_watch import TimedGuard
from worker.pipeline.lessons import Lesson, Validation, prepare_lesson
from worker.pipeline.training_states import StateKeeper
from worker.trainer_tools import TrainerContext
from worker.workspace import Workspace

NAME: Final = Stage.FINE_TUNE
READS: Final = (
    ArtifactName.TRAINING_ROWS,
    ArtifactName.VALIDATION_ROWS,
    ArtifactName.SCREENING,
    ArtifactName.BASE_MODEL,
)
WRITES: Final = (
    ArtifactName.TRAINED_ADAPTER,
    ArtifactName.LAST_PROBE,
    ArtifactName.TRAINING,
    ArtifactName.METRICS,
)
STATE: Final = ArtifactName.TRAINING_STATE

COLUMNS: Final = (
    "step",
    "train_loss",
    "train_accuracy",
    "valid_loss",
    "valid_mean_token_accuracy",
    "gradient_norm",
    "harmful_loss",
    "perturbed_harmful_loss",
    "harmful_gradient_norm",
    "guarded_step",
    "guard_loss",
    "guard_norm",
    "learning_rate",
    "tokens",
    "reward_accuracy",
    "reward_margin",
    "preferred_reward",
    "non_preferred_reward",
)


def run(context: TrainerContext) -> None:
    """Train, from a saved state if there is one, and write what came of it."""
    keeper = StateKeeper(context, STATE)
    try:
        _train(context, keeper, keeper.read())
    except UnusableStateError:
        pass  # and let go of what the attempt holds before the next one begins
    else:
        return
    context.reporter.event(
        "The saved training state does not fit this worker; training begins again.", level="warn"
    )
    _train(context, keeper, None)


def _train(context: TrainerContext, keeper: StateKeeper, state: TrainingState | None) -> None:
    loaded = recorded_base_model(context)
    lesson = prepare_lesson(context)
    method = prepare_method(context)
    listener = StepListener(context.reporter, state.step if state else 0)
    started = time.monotonic() - (state.seconds if state else 0)
    with adapted_model(
        loaded,
        lora_settings(context.spec),
        aligned=continued_adapter(context, loaded),
        seed=context.spec.seed,
    ) as model:
        snapshots = EpochSnapshots(model, context.spec.checkpoints, method.last_probe)
        training = _training(context, lesson, model, loaded.pad_token_id)
        guard = TimedGuard.prepare(lambda: method.guard(training))
        result = lesson.learn(
            model,
            loaded.pad_token_id,
            _plan(context),
            guard,
            listener,
            Resumption(state, keeper, snapshots),
        )
        final = Snapshot(result.steps, adapter_state(model), method.last_probe() or {})
        # After training, which so is the same bit for bit whether or not snapshots are kept.
        validations = _validations(lesson, model, loaded.pad_token_id, [*snapshots.kept, final])
    whole = {
        "rows": lesson.row_count,
        "skipped_rows": result.skipped_rows,
        "seconds": round(time.monotonic() - started, 3),
        "guard_seconds": _guard_seconds(guard, state),
        "snapshot_steps": [snapshot.step for snapshot in snapshots.kept],
    }
    for step, validation in validations.items():
        listener.on_validation(result.history[step - 1], validation)
    facts = lesson.facts()
    workspace = context.workspace
    _write(workspace, final, _summary(result.history, validations) | whole | facts)
    for snapshot in snapshots.kept:
        until_then = [metrics for metrics in result.history if metrics.step <= snapshot.step]
        summary = _summary(until_then, validations) | facts
        _write(workspace.at_snapshot(snapshot.step), snapshot, summary)
    write_metrics(workspace.output(ArtifactName.METRICS), result.history, validations)


def _guard_seconds(guard: TimedGuard | None, state: TrainingState | None) -> float | None:
    """Tell what the guard has taken; None if an earlier attempt's part of it is not known."""
    if guard is None:
        return 0.0
    return None if state else round(guard.seconds, 3)


class StepListener:
    """Turns optimizer steps into events and progress.

    Args:
        reporter: Where they go.
        taken: Steps that an earlier attempt has taken.
    """

    def __init__(self, reporter: Reporter, taken: int = 0) -> None:
        self._reporter = reporter
        self._taken = taken
        self._first: tuple[int, float] | None = None

    def on_step(self, metrics: StepMetrics) -> None:
        """Report one optimizer step."""
        if self._taken and metrics.step == self._taken + 1:
            self._reporter.event(
                f"Training goes on after step {self._taken}.", data={"step": self._taken}
            )
        remaining = self._remaining_seconds(metrics.step, metrics.total_steps)
        self._reporter.event(
            f"Step {metrics.step}/{metrics.total_steps}: training loss={metrics.train_loss:.2f}",
            event_type="metrics",
            data=step_data(metrics),
        )
        self._reporter.progress(
            metrics.step,
            metrics.total_steps,
            remaining_seconds=remaining,
            trained_tokens=metrics.tokens,
        )

    def on_validation(self, metrics: StepMetrics, validation: Validation) -> None:
        """Report what the held-out rows showed at a step.

        All of them are used each time, so both names of a number hold the same.
        """
        found, loss = validation.metrics(), f"{validation.loss:.2f}"
        self._reporter.event(
            f"Step {metrics.step}/{metrics.total_steps}: training loss={metrics.train_loss:.2f}, "
            f"validation loss={loss}, full validation loss={loss}",
            event_type="metrics",
            data=step_data(metrics) | found | {f"full_{name}": found[name] for name in found},
        )

    def _remaining_seconds(self, step: int, total_steps: int) -> float | None:
        """Tell what is left at the pace since the first step, before which other work was done."""
        now = time.monotonic()
        if self._first is None:
            self._first = (step, now)
            return None
        first, began = self._first
        return (now - began) / (step - first) * (total_steps - step)


def step_data(metrics: StepMetrics) -> dict[str, Any]:
    """Give a step's numbers as an event shows them; what was not measured is left out."""
    return {name: value for name, value in dataclasses.asdict(metrics).items() if value is not None}


def write_metrics(
    path: Path, history: Sequence[StepMetrics], validations: Mapping[int, Validation]
) -> None:
    """Write one line per optimizer step; some of them were validated."""
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
        table.writeheader()
        for metrics in history:
            line = step_data(metrics)
            line["train_accuracy"] = line.get("train_mean_token_accuracy", "")
            if metrics.step in validations:
                line |= validations[metrics.step].metrics()
            table.writerow(line)


def _validations(
    lesson: Lesson, model: PeftModel, pad_token_id: int, snapshots: Sequence[Snapshot]
) -> dict[int, Validation]:
    """Map the steps of snapshots to what rows held out show; {} without such rows."""
    validations: dict[int, Validation] = {}
    for snapshot in snapshots:
        load_adapter_state(model, snapshot.tensors)
        validation = lesson.validate(model, pad_token_id)
        if validation is not None:
            validations[snapshot.step] = validation
    return validations


def _write(workspace: Workspace, trained: Snapshot, summary: dict[str, Any]) -> None:
    write_tensors(workspace.output(ArtifactName.TRAINED_ADAPTER), trained.tensors)
    write_tensors(workspace.output(ArtifactName.LAST_PROBE), trained.last_probe)
    workspace.write_json(ArtifactName.TRAINING, summary)


def _training(
    context: TrainerContext, lesson: Lesson, model: PeftModel, pad_token_id: int
) -> Training:
    plan, rows = _plan(context), lesson.answers()
    return Training(
        model,
        pad_token_id,
        rows,
        plan.batch_size,
        plan.total_steps(len(rows)),
        plan.max_gradient_norm,
    )


def _plan(context: TrainerContext) -> TrainingPlan:
    wanted = context.spec.hyperparameters
    return TrainingPlan(
        epochs=wanted.n_epochs,
        batch_size=wanted.batch_size,
        learning_rate=wanted.learning_rate,
        seed=context.spec.seed,
        max_steps=wanted.max_steps,
    )


def _summary(
    history: Sequence[StepMetrics], validations: Mapping[int, Validation]
) -> dict[str, Any]:
    """Say what training was up to the last of these steps."""
    last = history[-1]
    validation = validations.get(last.step)
    return {
        "steps": last.step,
        "tokens": last.tokens,
        "final_train_loss": last.train_loss,
        "final_train_mean_token_accuracy": last.train_mean_token_accuracy,
        "valid_loss": None if validation is None else validation.loss,
        "valid_mean_token_accuracy": None if validation is None else validation.mean_token_accuracy,
        "guarded_steps": sum(step.guarded_step == step.step for step in history),
    }
