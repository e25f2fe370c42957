"""Which rows pull a model towards harm: how far each row's gradient points where harmful rows' do.

With `g_i` the gradient of the mean token loss of row `i` over all adapter weights, before any
training on the rows,

    m(S)     = mean over rows j of S of g_j / ||g_j||
    d        = m(harmful) - m(user)
    score_i  = <g_i, d> / (||g_i|| ||d||)

a cosine between -1 and 1, with the operator's harmful rows and some of the user's own. Training
descends `-g_i`; above zero, a step on the row lowers the loss of the operator's harmful answers
more than that of the user's other rows. The difference takes out what all of the user's rows teach,
such as the task and its format; unit gradients keep rows with a large loss from speaking for all
others; and the cosine keeps a row from ranking high by its loss alone. It finds the few among the
many: of a file that is harmful throughout it says little.

The weights before training are the ones that tell most: a model that refuses has to change to
learn a harmful answer. Once it has learned such answers, their gradients are gone.

Cost: one pass forward and one back over the rows that are scored and over those of the operator;
nothing of the base model's own weights is differentiated. No random number is drawn.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from defense.errors import NumericalDivergenceError
from defense.ops.per_row_gradients import RowPass
from defense.ops.tensors import added, resized
from defense.protocols import IGNORED, DefenderRows, EncodedRow, Tensors
from defense.training.batching import supervised_rows
from defense.training.loss import AdapterLoss

ROWS_PER_PASS = 8
ANSWER_TOKENS = 8
"""Of each answer so many tokens are looked at: whether it is harmful shows at its beginning."""

REFERENCE_ROWS = 32
"""So many rows make each side of the direction, and as many of the operator's the comparison."""

OnBatch = Callable[[], None]
_Any = TypeVar("_Any")


@dataclass(frozen=True)
class RowAttribution:
    """What each row's gradient says of it.

    Attributes:
        scores: One for each row, in their order.
        benign_scores: Of harmless rows of the operator's, in rising order.
    """

    scores: Sequence[float]
    benign_scores: Sequence[float]

    def percentile(self, score: float) -> float:
        """Share of the operator's harmless rows that score lower, 0 to 1."""
        return bisect_left(self.benign_scores, score) / len(self.benign_scores)


def attribute_rows(
    loss: AdapterLoss,
    rows: Sequence[EncodedRow],
    defender: DefenderRows,
    on_batch: OnBatch | None = None,
    *,
    most: int = ROWS_PER_PASS,
) -> RowAttribution:
    """Score rows by how far learning them pulls the model towards harm.

    Args:
        loss: Of the model before training, in evaluation mode; it is left as it is.
        rows: Each with a supervised token.
        defender: The operator's harmful and benign rows.
        on_batch: Called after each pass; may raise to stop.
        most: No pass takes more rows than this.

    Raises:
        NoSupervisedTokensError: A kind of the operator's rows has nothing to learn from.
    """
    harmful = spread(supervised_rows(defender.harmful, "harmful"), REFERENCE_ROWS)
    benign = beginnings(spread(supervised_rows(defender.benign, "benign"), REFERENCE_ROWS))
    user = beginnings(spread(rows, REFERENCE_ROWS))
    direction = harmful_direction(loss, beginnings(harmful), user, on_batch, most)
    scores = row_alignments(loss, [*beginnings(rows), *benign], direction, on_batch, most)
    return RowAttribution(scores[: len(rows)], sorted(scores[len(rows) :]))


def harmful_direction(
    loss: AdapterLoss,
    harmful: Sequence[EncodedRow],
    others: Sequence[EncodedRow],
    on_batch: OnBatch | None = None,
    most: int = ROWS_PER_PASS,
) -> dict[str, torch.Tensor]:
    """Take `d / ||d||` at the model's present weights.

    Args:
        loss: Of the model.
        harmful: Harmful prompts with harmful answers.
        others: Rows that are not to be found.
        on_batch: Called after each pass; may raise to stop.
        most: No pass takes more rows than this.

    Raises:
        NoSupervisedTokensError: One of the two has nothing to learn from.
        NumericalDivergenceError: A row's gradient is not finite.
    """
    means = [
        mean_unit_gradient(loss, supervised_rows(rows, kind), on_batch, most)
        for kind, rows in (("harmful", harmful), ("other", others))
    ]
    direction = resized(added(means[0], means[1], -1.0), 1.0)
    if not all(bool(torch.isfinite(tensor).all()) for tensor in direction.values()):
        raise NumericalDivergenceError("the gradient of a row is not finite")
    return direction


def mean_unit_gradient(
    loss: AdapterLoss,
    rows: Sequence[EncodedRow],
    on_batch: OnBatch | None = None,
    most: int = ROWS_PER_PASS,
) -> dict[str, torch.Tensor]:
    """Take `m(rows)`; each row needs a supervised token."""
    total = {name: torch.zeros_like(weight) for name, weight in loss.weights().items()}
    for indices in _passes(rows, most):
        found = RowPass(loss, [rows[index] for index in indices])
        weights_B = torch.where(found.norms_B > 0, 1 / (len(rows) * found.norms_B), 0.0)
        total = added(total, found.weighted_sum(weights_B))
        if on_batch is not None:
            on_batch()
    return total


def row_alignments(
    loss: AdapterLoss,
    rows: Sequence[EncodedRow],
    direction: Tensors,
    on_batch: OnBatch | None = None,
    most: int = ROWS_PER_PASS,
) -> list[float]:
    """Score rows: the cosine between each one's gradient and a direction of length 1.

    Args:
        loss: Of the model, at the weights that the direction was taken at.
        rows: Each with a supervised token.
        direction: As `harmful_direction` gives it.
        on_batch: Called after each pass; may raise to stop.
        most: No pass takes more rows than this.

    Returns:
        One score for each row, in the order of the rows; 0 where there is no finite gradient.
    """
    scores = [0.0] * len(rows)
    for indices in _passes(rows, most):
        found = RowPass(loss, [rows[index] for index in indices])
        cosines_B = torch.nan_to_num(found.inner(direction) / found.norms_B, 0.0, 0.0, 0.0)
        for index, score in zip(indices, cosines_B.tolist(), strict=True):
            scores[index] = score
        if on_batch is not None:
            on_batch()
    return scores


def beginnings(rows: Sequence[EncodedRow], answer_tokens: int = ANSWER_TOKENS) -> list[EncodedRow]:
    """Cut rows behind the last token that counts, of every answer the first `answer_tokens`."""
    return [_beginning(row, answer_tokens) for row in rows]


def _beginning(row: EncodedRow, answer_tokens: int) -> EncodedRow:
    labels = list(row.labels)
    run, end = 0, 0
    for place, label in enumerate(row.labels):
        run = run + 1 if label != IGNORED else 0
        if run > answer_tokens:
            labels[place] = IGNORED
        elif run:
            end = place + 1
    return replace(row, input_ids=row.input_ids[:end], labels=tuple(labels[:end]))


def _passes(rows: Sequence[EncodedRow], most: int) -> list[list[int]]:
    """Numbers of rows of similar length together, which saves padding."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index].input_ids))
    size = min(ROWS_PER_PASS, most)
    return [order[start : start + size] for start in range(0, len(order), size)]


def spread(rows: Sequence[_Any], count: int) -> list[_Any]:
    """Take `count` of some rows, evenly."""
    taken = min(count, len(rows))
    return [rows[place * len(rows) // taken] for place in range(taken)]
