"""Supervised alignment: teach a base model, through one LoRA adapter, to refuse harmful requests.

Stage: alignment. Data: alignment rows (harmful prompts with refusals, and harmless look-alikes
with helpful answers) and general benign rows. Without look-alikes and benign rows the adapter
learns to refuse everything that sounds like the prompts it has seen.

Refusals are read more often than helpful answers (`refusal_repeats`): measured on SmolLM2-135M, the
same rows read equally often left four times as many harmful prompts answered.

The adapter is what user jobs continue, so it is trained by the very loop they are trained by.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from defense.alignment.supervised.config import AlignmentConfig
from defense.protocols import ProgressListener, Row
from defense.training.chat import encode_row, padding_token
from defense.training.loop import TrainingPlan, TrainingResult, fine_tune
from defense.training.lora import Adapter, LoraSettings, adapter_state, attach_adapter


@dataclass(frozen=True)
class AlignmentRows:
    """The operator's rows.

    Attributes:
        refusals: Harmful prompts with refusals.
        helpful: Harmless look-alikes and general prompts with helpful answers.
    """

    refusals: Sequence[Row]
    helpful: Sequence[Row]


def align(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chat_template: str,
    rows: AlignmentRows,
    target_modules: Sequence[str],
    config: AlignmentConfig,
    listener: ProgressListener | None = None,
) -> tuple[Adapter, PeftModel, TrainingResult]:
    """Train an aligned adapter.

    Args:
        model: The base model; wrapped in place, `detach_adapter` gives it back.
        tokenizer: The base model's, with a padding or an end token.
        chat_template: Jinja source of the template users' jobs will use.
        rows: Alignment and benign rows.
        target_modules: Linear layers to adapt.
        config: The options.
        listener: Told about every optimizer step; may raise to stop.

    Returns:
        The adapter, the model it is on, and the steps taken.

    Raises:
        NoSupervisedTokensError: No row is usable.
        NumericalDivergenceError: A loss or a gradient stopped being finite.
    """
    settings = LoraSettings(config.lora_rank, config.lora_alpha, tuple(target_modules))
    wrapped = attach_adapter(model, settings, seed=config.seed)
    read = [*rows.refusals] * config.refusal_repeats + [*rows.helpful]
    encoded = [encode_row(row, tokenizer, chat_template, config.max_tokens) for row in read]
    plan = TrainingPlan(
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        seed=config.seed,
    )
    result = fine_tune(wrapped, padding_token(tokenizer), encoded, plan, listener=listener)
    return Adapter(settings, adapter_state(wrapped)), wrapped, result
