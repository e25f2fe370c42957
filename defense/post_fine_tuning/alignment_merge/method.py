"""Alignment merge: each layer answers refusals as before the training, and the task as after it.

Source: this project; the regression is that of RegMean (arXiv:2212.09849), which merges models of
different tasks, and the correction of drift from layer to layer is that of layer-wise pruning and
quantisation (SparseGPT, arXiv:2301.00774). Stage: post-fine-tuning. Data: the operator's refusals
and benign rows, the user's rows.

A linear layer with an adapter puts out `W x + s P x`, `P = B A`. Two models are taken as they were:
the trained one on the user's rows (T), the one it began as on the operator's (S). From the first
layer to the last, with `x` what goes into the layer once all before it are merged, `y` what the
layer put out in the model as it was, and `c` what a token counts, the merged product minimises

    sum_T c |W x + s P x - y|^2 / t  +  mu sum_S c |W x + s P x - y|^2 / u

over products of the adapter's rank; t and u make the mean diagonal of both Gram matrices 1. With
`d = y - (W x + s P_i x)`, what the layer as it was lacks at these inputs, `G_i = sum c x x'` and
`D_i = sum c d x'`, the minimum over all matrices is

    P* = (P_T G_T + D_T / s + mu (P_S G_S + D_S / s)) (G_T + mu G_S)^-1 = R G^-1

and that over rank R is the truncated singular value decomposition of `P* L`, times `L^-1`, with
`G = L L'`. No gradient is taken: three passes forward over a few dozen rows.

What a training has done to inputs that the user's rows do not have is taken back; what it has done
to theirs stays.

Shapes: O outputs, J inputs, K dimensions of a subspace, R the adapter's rank.

Differences from the papers, and why:
- The two sides are weighted (mu), and tokens that predict an answer's count more than a prompt's:
  what is merged is a model's alignment and a task, not two tasks.
- The Gram matrices are damped and their off-diagonals are not shrunk: that inputs come together is
  what tells a harmful prompt from the task.
- Adapters are merged, not the weights under them. `mean_lost_share` tells what their rank cannot
  hold.
- Layers of one decoder layer are merged at once: the inputs of its later ones are those before.

Strength 1 is the merge. The move is one of both factors, so at other strengths the product leaves
the straight line between the two models; the factors are turned towards the trained ones to keep
that small. Adapted layers outside of decoder layers stay as trained, and `figures` counts them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from defense.errors import InvalidConfigError, NumericalDivergenceError
from defense.ops.adapted_layers import AdaptedLayer, adapted_layers, on_device_of
from defense.ops.low_rank import Factors, leading_space, low_rank_factors
from defense.ops.moves import computed_move
from defense.post_fine_tuning.alignment_merge.config import AlignmentMergeConfig
from defense.post_fine_tuning.alignment_merge.lockstep import Lockstep, Regression, blocks_of
from defense.protocols import (
    DefenderRows,
    EncodedRow,
    Perturbation,
    PerturbationStep,
    Tensors,
    Trained,
)
from defense.training.batching import RowSampler, supervised_rows
from defense.training.loss import AdapterLoss


def build_ending(
    config: AlignmentMergeConfig, rows: DefenderRows, trained: Trained, seed: int
) -> Perturbation:
    """The move from the trained adapter to the merged one.

    Raises:
        InvalidConfigError: The model's layers have no names that are known, or no adapter.
        NoSupervisedTokensError: A set of rows has nothing to learn from.
        NumericalDivergenceError: A layer's input or output is not finite.
    """
    task = _drawn(trained.task_rows, config.task_rows, "training", seed)
    refusals = _drawn(rows.refusals, config.refusal_rows, "refusal", seed)
    benign = _drawn(rows.benign, config.benign_rows, "benign", seed)
    source = AdapterLoss(trained.model, trained.pad_token_id)
    weights = source.weights()
    initial = on_device_of(trained.initial, weights)
    layers = adapted_layers(trained.model)
    blocks = blocks_of(trained.model, layers)
    weight = config.answer_weight
    user = Lockstep(source, blocks, task, weights, weight)
    operator = Lockstep(source, blocks, [*refusals, *benign], initial, weight)
    if not any(block.adapted for block in blocks):
        raise InvalidConfigError(
            "type", "merges linear layers within decoder layers, and the adapter has none there"
        )
    merged = dict(weights)
    lost: list[float] = []
    for number, block in enumerate(blocks, start=1):
        of_task, of_kept = user.read(block), operator.read(block)
        for layer in block.adapted.values():
            sides = (
                Side(layer, weights, of_task[layer.name], 1.0),
                Side(layer, initial, of_kept[layer.name], config.alignment_weight),
            )
            found = merge(sides, config.damping_ratio)
            lost.append(found.lost_share)
            merged[layer.a_name] = found.a_RI.to(weights[layer.a_name].dtype)
            merged[layer.b_name] = found.b_OR.to(weights[layer.b_name].dtype)
        for lockstep in (user, operator):
            lockstep.advance(block, merged)
        _tell(trained, number, len(blocks))
    return computed_move(
        {name: merged[name] - weight for name, weight in weights.items()},
        figures={
            "mean_lost_share": sum(lost) / len(lost),
            "largest_lost_share": max(lost),
            "layers_left_as_trained": len(layers) - len(lost),
        },
    )


@dataclass(frozen=True)
class Side:
    """One of the two models that a layer is merged of.

    Attributes:
        layer: The layer.
        weights: The adapter's in that model.
        known: Inputs and drift on the rows of this side.
        counts: What the side counts.
    """

    layer: AdaptedLayer
    weights: Tensors
    known: Regression
    counts: float

    def factors(self) -> Factors:
        """The layer's factors in that model."""
        a_RI, b_OR = self.weights[self.layer.a_name], self.weights[self.layer.b_name]
        return Factors(a_RI.double(), b_OR.double(), 0.0)

    def equations(self, damping_ratio: float) -> tuple[Tensor, Tensor]:
        """`G` and `R` of the normal equations `P G = R`, in float64.

        Raises:
            NumericalDivergenceError: They are not finite.
        """
        gram_JJ = self.known.gram_JJ.double()
        mean = gram_JJ.diagonal().mean()
        if not torch.isfinite(mean) or not torch.isfinite(self.known.drift_OJ).all():
            raise NumericalDivergenceError(
                f"what goes into {self.layer.name} is not finite; lower the learning rate"
            )
        scale = self.counts / (mean or torch.ones_like(mean))  # a layer may read nothing but zeros
        own = self.factors()
        gram_JJ = scale * gram_JJ
        gram_JJ.diagonal().add_(self.counts * damping_ratio)
        drift_OJ = scale / self.layer.scaling * self.known.drift_OJ.double()
        return gram_JJ, own.b_OR @ (own.a_RI @ gram_JJ) + drift_OJ


def merge(sides: Sequence[Side], damping_ratio: float) -> Factors:
    """The best product of the adapter's rank; its factors are near those of the first side.

    Raises:
        NumericalDivergenceError: What is known of the layer is not finite.
    """
    equations = [side.equations(damping_ratio) for side in sides]
    gram_JJ, wanted = equations[0]
    for other_gram_JJ, other_wanted in equations[1:]:
        gram_JJ += other_gram_JJ
        wanted += other_wanted
    root_JJ = torch.linalg.cholesky(gram_JJ)
    # P* L = R (L L')^-1 L = R L'^-1
    best_OJ = torch.linalg.solve_triangular(root_JJ, wanted.T, upper=False).T
    factors = [side.factors() for side in sides]
    space_OK = leading_space(best_OJ, torch.cat([each.b_OR for each in factors], dim=1))
    near = Factors(factors[0].a_RI @ root_JJ, factors[0].b_OR, 0.0)
    found = low_rank_factors(space_OK, space_OK.T @ best_OJ, near)
    whole = best_OJ.norm()
    kept = torch.linalg.norm(found.b_OR @ found.a_RI)
    lost = (1 - (kept / whole).square()).clamp(min=0).sqrt().item() if whole else 0.0
    a_RI = torch.linalg.solve_triangular(root_JJ, found.a_RI, upper=False, left=False)
    # Turned once more, where strengths between the two are mixtures: towards the trained factors.
    turned = low_rank_factors(found.b_OR, a_RI, factors[0])
    return Factors(turned.a_RI, turned.b_OR, lost)


def _tell(trained: Trained, number: int, total: int) -> None:
    """Say that work goes on; the listener may stop it."""
    if trained.on_step is not None:
        trained.on_step(PerturbationStep(number, total, {}, {}, {}, {}, projection_fired=False))


def _drawn(rows: Sequence[EncodedRow], count: int, kind: str, seed: int) -> list[EncodedRow]:
    if not count:
        return []
    usable = supervised_rows(rows, kind)
    return RowSampler(usable, min(count, len(usable)), seed).next_batch()
