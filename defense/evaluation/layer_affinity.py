"""Which transformer layers the perturbation lies in: where the move towards safety is made.

Two shares of every layer, each of a sum over all layers:

- of the squared norm of the perturbation itself, eps. It depends on how an adapter writes its
  product: scaling A up and B down by the same number changes no output, and changes this share.
- of the squared norm of what the model's weights are changed by. That is exact, with the term of
  second order: `scaling * ((B + k eps_B) (A + k eps_A) - B A)` at strength k.

Neither says what a layer's part does; `layer_ablation` measures that.

Shapes: R rank, I a module's inputs, O its outputs.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch

from defense.ops.layers import Layer, layer_of, layers_of
from defense.ops.low_rank import squared_product_norm
from defense.ops.tensors import check_same_shapes
from defense.protocols import Tensors

_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class LayerShare:
    """What of a perturbation lies in one layer.

    Attributes:
        layer: Counted from 0; None is all that lies outside the stack of layers.
        adapter_weights: How many numbers the adapter has there.
        perturbation_share: Of eps's squared norm, 0 to 1.
        weight_change_share: Of the squared norm of the change of the model's weights.
    """

    layer: Layer
    adapter_weights: int
    perturbation_share: float
    weight_change_share: float


@dataclass(frozen=True)
class LayerAffinity:
    """Where a perturbation lies.

    Attributes:
        strength: That the change of weights is measured at: the delivered one, or 1 if that is 0.
        perturbation_norm: Of eps, at strength 1.
        weight_change_norm: Of the change of the model's weights, Frobenius over all of them.
        layers: Every layer that has an adapter, in order; each share adds up to 1 over them,
            but for a perturbation that changes no weight, whose every share of that is 0.
    """

    strength: float
    perturbation_norm: float
    weight_change_norm: float
    layers: tuple[LayerShare, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain objects, lists and numbers."""
        return {**asdict(self), "layers": [asdict(share) for share in self.layers]}


def layer_affinity(
    trained: Tensors, perturbation: Tensors, strength: float, scaling: float
) -> LayerAffinity | None:
    """Share a perturbation out among the layers; None if it is empty or zero.

    Args:
        trained: The adapter that it is added to.
        perturbation: The move at strength 1.
        strength: Of the move in the delivered adapter.
        scaling: The adapter's `alpha / rank`.

    Raises:
        ValueError: The two are not of one adapter.
    """
    if not perturbation:
        return None
    check_same_shapes(trained, perturbation)
    squares, counts = _squares(perturbation)
    total = math.fsum(squares.values())
    if total == 0:
        return None
    measured_at = strength or 1.0
    changes: dict[Layer, float] = defaultdict(float)
    for layer, squared in _squared_changes(trained, perturbation, measured_at, scaling):
        changes[layer] += squared
    whole = math.fsum(changes.values())
    return LayerAffinity(
        strength=measured_at,
        perturbation_norm=math.sqrt(total),
        weight_change_norm=math.sqrt(whole),
        layers=tuple(
            LayerShare(
                layer=layer,
                adapter_weights=counts[layer],
                perturbation_share=squares[layer] / total,
                weight_change_share=changes[layer] / whole if whole else 0.0,
            )
            for layer in layers_of(perturbation)
        ),
    )


def _squares(perturbation: Tensors) -> tuple[dict[Layer, float], dict[Layer, int]]:
    """Squared norm of each layer's part, and how many numbers it has."""
    squares: dict[Layer, float] = defaultdict(float)
    counts: dict[Layer, int] = defaultdict(int)
    for name, tensor in perturbation.items():
        squares[layer_of(name)] += float(tensor.double().square().sum())
        counts[layer_of(name)] += tensor.numel()
    return squares, counts


def _squared_changes(
    trained: Tensors, perturbation: Tensors, strength: float, scaling: float
) -> Iterator[tuple[Layer, float]]:
    """Squared norm of what each adapted module's weight is changed by.

    The change is written `(k eps_B) (A + k eps_A) + B (k eps_A)`, whose terms are as small as it
    is: the difference of the two products, each far larger, would lose digits.
    """
    for a_name in (name for name in trained if name.endswith(_A)):
        b_name = a_name.removesuffix(_A) + _B
        move_a_RI = strength * perturbation[a_name].double()
        move_b_OR = strength * perturbation[b_name].double()
        left_OK = torch.cat([move_b_OR, trained[b_name].double()], dim=1)
        right_KI = torch.cat([trained[a_name].double() + move_a_RI, move_a_RI])
        yield layer_of(a_name), scaling**2 * squared_product_norm(left_OK, right_KI)
