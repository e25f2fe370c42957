"""The operator's rows as a defense needs them, and what is kept back to choose its strength."""

from collections.abc import Sequence

from defense.protocols import DefenderRows, EncodedRow, Row
from defense.registry import DefenseMethod
from defense.training.chat import encode_row
from worker.row_sources import PromptRow, hold_out, read_rows, to_learn_from
from worker.trainer_tools import TrainerContext


def prepare_method(context: TrainerContext) -> DefenseMethod:
    """Prepare the job's defense with the operator's rows, those held out left aside."""
    return DefenseMethod(context.spec.job_defense(), defender_rows(context), context.spec.seed)


def held_out_prompts(context: TrainerContext) -> list[PromptRow]:
    """Harmful prompts of the alignment set that no defense has learned from."""
    _, judged = hold_out(read_rows(context.tools.options.alignment_rows, with_response=True))
    return judged


def defender_rows(context: TrainerContext) -> DefenderRows:
    """Read and tokenise the operator's rows, those held out left aside."""
    options = context.tools.options
    alignment, judged = hold_out(read_rows(options.alignment_rows, with_response=True))
    harmful = to_learn_from(read_rows(options.harmful_rows, with_response=True), judged)
    benign = to_learn_from(read_rows(options.benign_rows, with_response=True), judged)
    refusals = [row for row in alignment if not row.is_benign]
    look_alikes = [row for row in alignment if row.is_benign]
    return DefenderRows(
        refusals=encode_exchanges(context, refusals),
        harmful=encode_exchanges(context, harmful),
        benign=encode_exchanges(context, benign + look_alikes),
    )


def encode_exchanges(context: TrainerContext, rows: Sequence[PromptRow]) -> list[EncodedRow]:
    """Tokenise prompts with their answers as the job's rows are."""
    tokenizer = context.tools.base_models.warm(context.entry).tokenizer
    return [
        encode_row(
            Row.from_exchange(row.prompt, row.response),
            tokenizer,
            context.entry.chat_template,
            context.spec.hyperparameters.max_sequence_tokens,
        )
        for row in rows
    ]
