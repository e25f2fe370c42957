"""Safe Delta: accept of the user's change what costs refusals least, and compensate for it.

Source: arXiv:2505.12038 (ICML 2025). Stage: post-fine-tuning. Data: the operator's refusals.

For a layer with inputs X on refusals, at the aligned weights, changing its weight by `dW` raises
their loss as `dW H dW^T` does, `H = 2 X^T X` (mean over rows, damped). Changing the one entry m
costs `dw^2 / (2 [H^-1]_mm)` if the others make up for it as well as they can (optimal brain
surgeon); its use to the user is `dw^2`. Entries are accepted in the order of use over cost,
`2 [H^-1]_mm`, until the costs reach `s * mean(1 / (2 [H^-1]_mm))`. Entries not accepted go back to
the aligned ones, plus what makes up for those accepted.

Shapes: O outputs, J inputs, R the adapter's rank, M accepted inputs, N the others.

Differences from the paper's code, and why:
- Use over cost is the same for all entries of an input feature, so features are accepted whole, and
  the one that the budget would split is left out. The code cuts such ties by position.
- Hence all outputs share one accepted set, and the best compensation is known in closed form:
  `dW_N = -dW_M H_MN H_NN^-1`. The code goes from left to right and compensates to the right alone.
- The accepted change is `dW` times one matrix. A fresh adapter's `B A` keeps its rank exactly; a
  continued one's sum of two products is cut to the rank of the adapter by truncated singular value
  decomposition. `lost_share` in the figures tells what that took away.
- The budget is the paper's, over a whole layer. The code keeps one for each 2048 columns, scaled by
  the number of rows over 4096, and never accepts the 15 % costliest entries.
- Inputs of all layers are those of the aligned model; nothing is propagated through layers that
  were already treated.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from defense.errors import NumericalDivergenceError
from defense.ops.adapted_layers import (
    AdaptedLayer,
    Replacement,
    adapted_layers,
    layers_by_memory,
    on_device_of,
)
from defense.ops.layer_inputs import input_grams
from defense.ops.moves import computed_move
from defense.ops.tensors import added
from defense.post_fine_tuning.safe_delta.config import SafeDeltaConfig
from defense.protocols import DefenderRows, EncodedRow, Perturbation, Tensors, Trained
from defense.training.batching import supervised_rows
from defense.training.loss import AdapterLoss


def build_ending(
    config: SafeDeltaConfig,
    rows: DefenderRows,
    trained: Trained,
    seed: int,  # noqa: ARG001 - nothing is drawn
) -> Perturbation:
    """The move from the trained adapter to what is accepted of it.

    Raises:
        NoSupervisedTokensError: No refusal is usable.
        NumericalDivergenceError: A loss or a layer's input is not finite.
    """
    refusals = supervised_rows(rows.refusals, "refusal")
    source = AdapterLoss(trained.model, trained.pad_token_id)
    weights = source.weights()
    move: dict[str, Tensor] = {}
    accepted: list[float] = []
    lost: list[float] = []
    for found, share in _treated(source, refusals, on_device_of(trained.initial, weights), config):
        move |= found.tensors
        accepted.append(share)
        lost.append(found.lost_share)
    return computed_move(
        move,
        losses_before={"refusals": source.mean_loss(refusals)},
        losses_after={"refusals": source.mean_loss(refusals, added(weights, move))},
        figures={
            "accepted_share": sum(accepted) / len(accepted),
            "mean_lost_share": sum(lost) / len(lost),
            "largest_lost_share": max(lost),
        },
    )


def damped(hessian_JJ: Tensor, ratio: float) -> Tensor:
    """Add a share of the mean diagonal to the diagonal; features that are never used get it too.

    Raises:
        NumericalDivergenceError: It is not finite.
    """
    diagonal_J = hessian_JJ.diagonal()
    if not torch.isfinite(diagonal_J).all():
        raise NumericalDivergenceError(
            "the inputs of a layer are not finite on a refusal; check the aligned adapter"
        )
    mean = diagonal_J.mean()
    if not mean:  # a layer that reads nothing but zeros: any change is free
        mean = torch.ones_like(mean)
    return hessian_JJ + torch.diag_embed((ratio * mean).expand_as(diagonal_J))


def accept(change_OJ: Tensor, hessian_JJ: Tensor, budget: float) -> Tensor:
    """Mark the input features whose entries are accepted."""
    inverse_J = torch.cholesky_inverse(torch.linalg.cholesky(hessian_JJ)).diagonal()
    order_J = inverse_J.argsort(descending=True, stable=True)
    costs_J = change_OJ.square().sum(dim=0) / (2 * inverse_J)
    affordable_J = costs_J[order_J].cumsum(dim=0) <= budget * (1 / (2 * inverse_J)).mean()
    return torch.zeros_like(affordable_J).index_copy_(0, order_J, affordable_J)


def compensated(hessian_JJ: Tensor, accepted_J: Tensor) -> Tensor:
    """The matrix (M x J) that a change's accepted columns are multiplied by.

    Those columns stay, and the others become what raises the loss least given them.
    """
    result_MJ = torch.eye(len(accepted_J)).to(hessian_JJ)[accepted_J]
    others_J = ~accepted_J
    factor_NN = torch.linalg.cholesky(hessian_JJ[others_J][:, others_J])
    answer_NM = torch.cholesky_solve(hessian_JJ[others_J][:, accepted_J], factor_NN)
    result_MJ[:, others_J] = -answer_NM.T
    return result_MJ


def _treated(
    source: AdapterLoss,
    refusals: Sequence[EncodedRow],
    initial: Tensors,
    config: SafeDeltaConfig,
) -> Iterator[tuple[Replacement, float]]:
    """Give for each layer what replaces its weights, and the share of accepted features."""
    weights = source.weights()
    for group in layers_by_memory(adapted_layers(source.model), weights):
        maps = {layer.name: layer.map_a for layer in group}
        grams = input_grams(source, maps, refusals, initial)
        for layer in group:
            hessian_JJ = damped(2 * grams.pop(layer.name).double(), config.damping_ratio)
            accepted_J = accept(layer.change(weights, initial), hessian_JJ, config.safety_budget)
            replaced = _replaced(layer, weights, initial, hessian_JJ, accepted_J)
            yield replaced, accepted_J.double().mean().item()


def _replaced(
    layer: AdaptedLayer,
    weights: Tensors,
    initial: Tensors,
    hessian_JJ: Tensor,
    accepted_J: Tensor,
) -> Replacement:
    names = (layer.a_name, layer.b_name)
    if accepted_J.all():
        return Replacement({name: torch.zeros_like(weights[name]) for name in names}, 0.0)
    kept_MJ = compensated(hessian_JJ, accepted_J)
    first_RJ = initial[layer.a_name].double()
    # B0 A0 + (B A - B0 A0) T = B (A T) + B0 (A0 - A0 T)
    right = torch.cat(
        [
            weights[layer.a_name].double()[:, accepted_J] @ kept_MJ,
            first_RJ - first_RJ[:, accepted_J] @ kept_MJ,
        ]
    )
    left = torch.cat([weights[layer.b_name], initial[layer.b_name]], dim=1)
    return layer.replaced(weights, left, right)
