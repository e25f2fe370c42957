"""How much of a perturbation to apply, measured on rows that neither side has learned from."""

from dataclasses import asdict
from typing import Any, Final

from peft import PeftModel

from defense.config import SearchedStrength
from defense.evaluation.strength import StrengthLimits, choose_strength
from defense.evaluation.strength_trial import StrengthTrial
from defense.protocols import EncodedRow, Tensors
from worker.base_models import LoadedModel
from worker.pipeline.defender_rows import held_out_prompts
from worker.pipeline.examination import Examiner, Paper
from worker.pipeline.held_out import read_clean_training_rows, read_held_out
from worker.row_sources import spread
from worker.trainer_tools import TrainerContext

JUDGED_PROMPTS: Final = 32
TASK_ROWS: Final = 48


class StrengthSearch:
    """Measures strengths of one perturbation on one trained adapter.

    Args:
        context: The stage.
        loaded: The base model under the adapter.
        model: The model with the adapter; left with the trained weights.
        trained: Those weights.
        perturbation: The move at strength 1.
    """

    def __init__(
        self,
        context: TrainerContext,
        loaded: LoadedModel,
        model: PeftModel,
        trained: Tensors,
        perturbation: Tensors,
    ) -> None:
        self._context = context
        examiner = Examiner(context, loaded, Paper())
        self._trial = StrengthTrial(
            model=model,
            pad_token_id=loaded.pad_token_id,
            trained=trained,
            perturbation=perturbation,
            answer=lambda prompts: examiner.answers(model, prompts, examiner.answer_tokens),
            classifier=context.tools.classifier,
            prompts=[row.prompt for row in spread(held_out_prompts(context), JUDGED_PROMPTS)],
            task_rows=_task_rows(context),
        )

    def choose(self, config: SearchedStrength) -> dict[str, Any]:
        """Take the strength the job fixes, or the smallest that meets its limits."""
        if not isinstance(config.perturbation_strength, str):
            return {
                "strength": config.perturbation_strength,
                "chosen": "fixed by the job",
                "points": [],
            }
        limits = StrengthLimits(config.harmful_target_rate, config.task_loss_budget)
        choice = choose_strength(self._trial.measure, limits)
        self._context.reporter.event(
            f"Perturbation strength {choice.strength:g} chosen. {choice.reason}",
            level="info" if choice.meets_limits else "warn",
        )
        return {
            "strength": choice.strength,
            "chosen": "measured",
            "meets_limits": choice.meets_limits,
            "reason": choice.reason,
            "judged_prompts": len(self._trial.prompts),
            "points": [asdict(point) for point in choice.points],
        }


def _task_rows(context: TrainerContext) -> list[EncodedRow]:
    """Take held-out rows; without any, clean rows of the training file: they must not get worse."""
    rows = read_held_out(context.workspace)
    if not rows:
        rows = read_clean_training_rows(context.workspace)
    usable = [row.encoded for row in rows if row.encoded.supervised_tokens]
    stride = max(1, len(usable) // TASK_ROWS)
    return usable[::stride][:TASK_ROWS]
