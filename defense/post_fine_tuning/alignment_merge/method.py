"""Alignment merge: each layer answers refusals as before the training, and the task as after it.

Source: this project; the regression is RegMean's (arXiv:2212.09849), which merges models of
different tasks. Stage: post-fine-tuning. Data: the operator's refusals and benign rows, the user's
rows.

A layer adds `s P x` to its output, `P = B A`. With `P_T` after the user's training and `P_0` before
it, the merged product minimises

    ||(P - P_T) X_T||^2 / t + mu ||(P - P_0) X_S||^2 / s

over all rank-R products. `X_T` are the layer's inputs on the user's rows at the trained weights,
`X_S` those on the operator's rows at the initial ones; t and s make both Gram matrices' mean
diagonals 1. With `G = G_T + mu G_S = L L^T` (damped) the minimum over all matrices is
`P* = (P_T G_T + mu P_0 G_S) G^-1`, and over rank R it is the truncated singular value decomposition
of `P* L`, times `L^-1`. No gradient is taken: two passes forward over a few dozen rows.

What a training has done to inputs that the user's rows do not need is taken back; what it has done
to those they do need stays, also where harmful rows have taught it.

Shapes: O outputs, J inputs, R the adapter's rank.

Differences from the paper, and why:
- The two sides are weighted (mu): what is merged is a model's alignment and a task, not two tasks.
- The Gram matrices are damped (`damping_ratio`) and their off-diagonals are not shrunk: inputs
  that correlate are what tells a harmful prompt from the task.
- The adapters are merged, not the weights under them, within the rank of the adapter and best in
  the norm that `G` gives. `mean_lost_share` tells what the rank could not hold.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from defense.errors import NumericalDivergenceError
from defense.ops.adapted_layers import (
    AdaptedLayer,
    adapted_layers,
    layers_by_memory,
    on_device_of,
)
from defense.ops.layer_inputs import input_grams
from defense.ops.low_rank import Factors, low_rank_factors
from defense.ops.moves import computed_move
from defense.post_fine_tuning.alignment_merge.config import AlignmentMergeConfig
from defense.protocols import DefenderRows, EncodedRow, Perturbation, Tensors, Trained
from defense.training.batching import RowSampler, supervised_rows
from defense.training.loss import AdapterLoss


def build_ending(
    config: AlignmentMergeConfig, rows: DefenderRows, trained: Trained, seed: int
) -> Perturbation:
    """The move from the trained adapter to the merged one.

    Raises:
        NoSupervisedTokensError: A set of rows has nothing to learn from.
        NumericalDivergenceError: A loss or a layer's input is not finite.
    """
    sets = {
        "refusals": _drawn(rows.refusals, config.refusal_rows, "refusal", seed),
        "benign": _drawn(rows.benign, config.benign_rows, "benign", seed),
        "task": _drawn(trained.task_rows, config.task_rows, "training", seed),
    }
    source = AdapterLoss(trained.model, trained.pad_token_id)
    weights = source.weights()
    initial = on_device_of(trained.initial, weights)
    move: dict[str, Tensor] = {}
    lost: list[float] = []
    groups = layers_by_memory(adapted_layers(trained.model), weights, copies=2)
    for layer, task_JJ, kept_JJ in _grams(source, groups, sets, initial):
        gram_T_JJ = unit_gram(task_JJ, config.damping_ratio)
        gram_S_JJ = config.alignment_weight * unit_gram(kept_JJ, config.damping_ratio)
        merged = merge(_factors(layer, weights), _factors(layer, initial), gram_T_JJ, gram_S_JJ)
        lost.append(merged.lost_share)
        for name, factor in ((layer.a_name, merged.a_RI), (layer.b_name, merged.b_OR)):
            move[name] = (factor - weights[name].double()).to(weights[name].dtype)
    figures = {"mean_lost_share": sum(lost) / len(lost), "largest_lost_share": max(lost)}
    return computed_move(move, figures=figures)


def unit_gram(gram_JJ: Tensor, damping_ratio: float) -> Tensor:
    """In float64, with a mean diagonal of 1, and damped.

    Raises:
        NumericalDivergenceError: It is not finite.
    """
    mean = gram_JJ.diagonal().double().mean()
    if not torch.isfinite(mean):
        raise NumericalDivergenceError(
            "the inputs of a layer are not finite; lower the learning rate"
        )
    size = mean or torch.ones_like(mean)  # a layer that reads nothing but zeros
    damping_J = torch.full_like(gram_JJ.diagonal(), damping_ratio, dtype=torch.float64)
    return gram_JJ.double() / size + torch.diag_embed(damping_J)


def merge(trained: Factors, initial: Factors, gram_T_JJ: Tensor, gram_S_JJ: Tensor) -> Factors:
    """The best product of the adapter's rank.

    Args:
        trained: Factors after the user's training, float64.
        initial: Factors before it.
        gram_T_JJ: Positive definite; what the trained product's outputs count.
        gram_S_JJ: The same for the initial product.

    Returns:
        Its factors, near those after training.
    """
    root_JJ = torch.linalg.cholesky(gram_T_JJ + gram_S_JJ)
    left = torch.cat([trained.b_OR, initial.b_OR], dim=1)
    wanted = torch.cat([trained.a_RI @ gram_T_JJ, initial.a_RI @ gram_S_JJ])
    # P* L = left @ wanted @ (L L^T)^-1 @ L = left @ wanted @ L^-T
    right = torch.linalg.solve_triangular(root_JJ, wanted.T, upper=False).T
    near = Factors(trained.a_RI @ root_JJ, trained.b_OR, 0.0)
    found = low_rank_factors(left, right, near)
    a_RI = torch.linalg.solve_triangular(root_JJ, found.a_RI, upper=False, left=False)
    return Factors(a_RI, found.b_OR, found.lost_share)


def _drawn(rows: Sequence[EncodedRow], count: int, kind: str, seed: int) -> list[EncodedRow]:
    if not count:
        return []
    usable = supervised_rows(rows, kind)
    return RowSampler(usable, min(count, len(usable)), seed).next_batch()


def _grams(
    source: AdapterLoss,
    groups: Iterator[list[AdaptedLayer]],
    sets: dict[str, list[EncodedRow]],
    initial: Tensors,
) -> Iterator[tuple[AdaptedLayer, Tensor, Tensor]]:
    """Each layer with its Gram matrices: on the task at the trained weights, on what is kept."""
    for group in groups:
        maps = {layer.name: layer.map_a for layer in group}
        task = input_grams(source, maps, sets["task"])
        kept = input_grams(source, maps, [*sets["refusals"], *sets["benign"]], initial)
        for layer in group:
            yield layer, task.pop(layer.name), kept.pop(layer.name)


def _factors(layer: AdaptedLayer, weights: Tensors) -> Factors:
    return Factors(weights[layer.a_name].double(), weights[layer.b_name].double(), 0.0)
