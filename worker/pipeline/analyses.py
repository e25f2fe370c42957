"""Analyses of a guarded adapter that cost minutes and are made when asked for.

Each function gives a section of the safety report. The model is left as it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from peft import PeftModel

from defense.evaluation import tamper
from defense.evaluation.layer_ablation import LayerTrial
from defense.evaluation.layer_affinity import layer_affinity
from defense.ops.tensors import apply_perturbation, on_device_of
from defense.protocols import EncodedRow, Tensors
from defense.training.loss import AdapterLoss
from worker.base_models import LoadedModel
from worker.pipeline.adapted_model import lora_settings
from worker.pipeline.analysis_rows import read_analysis_rows
from worker.pipeline.defender_rows import encode_exchanges
from worker.pipeline.examination import Examiner, Paper
from worker.row_sources import PromptRow, spread
from worker.trainer_tools import TrainerContext

# Losses are means over at most so many rows of each kind.
LOSS_ROWS: Final = 32
# The attack is the same for every job on a model: a job that trained slowly is no harder to harm.
ATTACK_BATCH: Final = 4


@dataclass(frozen=True)
class GuardedModel:
    """A trained adapter on its base model, and the perturbation that guards it.

    Attributes:
        loaded: The base model.
        model: The same with an adapter of the job's shape, in evaluation mode.
        trained: The adapter's weights without the perturbation.
        perturbation: The move at strength 1; empty if the job has none.
        strength: Of the move in the delivered adapter.
    """

    loaded: LoadedModel
    model: PeftModel
    trained: Tensors
    perturbation: Tensors
    strength: float

    @property
    def weights(self) -> Tensors:
        """The delivered adapter."""
        return apply_perturbation(self.trained, self.perturbation, self.strength)


def layer_ablation(context: TrainerContext, guarded: GuardedModel) -> dict[str, Any] | None:
    """The section `layer_affinity` with what each layer's part does, under `ablation`.

    None for a job without a perturbation.

    Raises:
        NoSupervisedTokensError: The operator's held-out rows have nothing to take a loss of.
        NumericalDivergenceError: A loss is not finite.
    """
    scaling = lora_settings(context.spec).scaling
    affinity = layer_affinity(guarded.trained, guarded.perturbation, guarded.strength, scaling)
    if affinity is None:
        return None
    rows = read_analysis_rows(context.tools.options)
    source = AdapterLoss(guarded.model, guarded.loaded.pad_token_id)
    progress = _Progress(context)
    trial = LayerTrial(
        source=source,
        trained=on_device_of(guarded.trained, source.weights()),
        perturbation=on_device_of(guarded.perturbation, source.weights()),
        strength=affinity.strength,
        rows={
            "harmful": _encoded(context, rows.harmful),
            "refusals": _encoded(context, rows.refusals),
        },
        seed=context.spec.seed,
        on_row=progress.advance,
    )
    progress.total = trial.passes
    ablation = trial.measure().as_json()
    return {**affinity.as_json(), "ablation": {**ablation, "harmful_held_out": rows.held_out}}


def tamper_curve(context: TrainerContext, guarded: GuardedModel) -> dict[str, Any]:
    """The section `tamper_curve`: the delivered adapter, attacked with harmful rows.

    Raises:
        NoSupervisedTokensError: The operator's harmful rows have nothing to learn from.
        NumericalDivergenceError: The attack breaks the model.
    """
    plan = tamper.TamperPlan(context.entry.learning_rate, ATTACK_BATCH, context.spec.seed)
    rows = read_analysis_rows(context.tools.options)
    source = AdapterLoss(guarded.model, guarded.loaded.pad_token_id)
    examiner = Examiner(context, guarded.loaded, Paper())
    classifier = context.tools.classifier
    progress = _Progress(context, plan.steps[-1])
    curve = tamper.tamper_curve(
        source,
        tamper.TamperRows(encode_exchanges(context, rows.attack), _encoded(context, rows.harmful)),
        plan,
        start=on_device_of(guarded.weights, source.weights()),
        judge=tamper.AnswerJudge(
            model=guarded.model,
            answer=lambda prompts: examiner.answers(guarded.model, prompts, examiner.answer_tokens),
            classifier=classifier,
            prompts=rows.prompts,
        ),
        on_step=lambda _: progress.advance(),
    )
    return {
        "settings": {
            **curve.settings_as_json(),
            "judged_rows_held_out": rows.held_out,
            "answer_tokens": examiner.answer_tokens,
            "classifier": {"name": classifier.name, "version": classifier.version},
        },
        "curves": {"guarded": curve.as_json()},
    }


def _encoded(context: TrainerContext, rows: Sequence[PromptRow]) -> list[EncodedRow]:
    return encode_exchanges(context, spread(rows, LOSS_ROWS))


@dataclass
class _Progress:
    """Counts what is done, and says so."""

    context: TrainerContext
    total: int = 0
    done: int = 0

    def advance(self) -> None:
        self.done += 1
        self.context.reporter.progress(self.done, self.total)
