"""What models make of general answers and of harmful ones, as token losses.

Both on rows that the defense has kept from learning where the operator's rows allow it. A guard is
meant to raise the loss of harmful answers and to leave that of general ones alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from peft import PeftModel

from defense.protocols import EncodedRow
from defense.training.loss import AdapterLoss
from worker.pipeline.defender_rows import encode_exchanges
from worker.row_sources import PromptRow, hold_out, read_rows, spread
from worker.trainer_tools import TrainerContext

LOSS_ROWS: Final = 32
"""Losses are means over at most so many rows of each kind."""

BENIGN: Final = "benign"
HARMFUL: Final = "harmful"


@dataclass(frozen=True)
class LossRows:
    """Rows of one kind to take losses on.

    Attributes:
        rows: As tokens, each with something to predict.
        held_out: Whether the defense has learned from none of them.
    """

    rows: Sequence[EncodedRow]
    held_out: bool


class LossMeter:
    """Measures models on the same rows.

    Args:
        context: The stage, for the operator's rows.
        pad_token_id: Token to pad with.
    """

    def __init__(self, context: TrainerContext, pad_token_id: int) -> None:
        self._context = context
        self._pad_token_id = pad_token_id
        self._kinds = {kind: _encoded(context, *found) for kind, found in _kept_rows(context)}
        self._losses: dict[str, dict[str, float]] = {kind: {} for kind in self._kinds}

    def measure(self, name: str, model: PeftModel) -> None:
        """Take the mean token losses of one model."""
        loss = AdapterLoss(model, self._pad_token_id)
        for kind, kept in self._kinds.items():
            if kept.rows:
                alive = self._context.reporter.alive
                self._losses[kind][name] = loss.mean_loss(kept.rows, on_batch=alive)

    def repeat(self, name: str, again: str) -> None:
        """Give a model that is another's equal its losses."""
        for losses in self._losses.values():
            if name in losses:
                losses[again] = losses[name]

    def as_json(self) -> dict[str, Any]:
        """Give every loss by kind of rows and by model, in nats per token."""
        return {
            kind: {"rows": len(kept.rows), "held_out": kept.held_out, "models": self._losses[kind]}
            for kind, kept in self._kinds.items()
        }


def _kept_rows(context: TrainerContext) -> Iterator[tuple[str, tuple[list[PromptRow], bool]]]:
    """Take the rows of either kind that the defense leaves aside, or all if it leaves none."""
    options = context.tools.options
    _, judged = hold_out(read_rows(options.alignment_rows, with_response=True))
    prompts = {row.prompt for row in judged}
    for kind, source in ((BENIGN, options.benign_rows), (HARMFUL, options.harmful_rows)):
        rows = read_rows(source, with_response=True)
        kept = [row for row in rows if row.held_out or row.prompt in prompts]
        yield kind, (kept or rows, bool(kept))


def _encoded(context: TrainerContext, rows: Sequence[PromptRow], held_out: bool) -> LossRows:  # noqa: FBT001
    encoded = encode_exchanges(context, spread(rows, LOSS_ROWS))
    return LossRows([row for row in encoded if row.supervised_tokens], held_out)
