"""The adapted layers of a model, one by one, with the names of their two weights.

Shapes: R rank, I a layer's inputs, O its outputs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from defense.errors import InvalidConfigError
from defense.ops.low_rank import Factors, low_rank_factors
from defense.protocols import Tensors
from defense.training.lora import ADAPTER_NAME, trainable_parameters

_A, _B = ".lora_A.weight", ".lora_B.weight"

# Layers are read in groups whose Gram matrices together fit into this much memory.
_GROUP_BYTES = 2**30


@dataclass(frozen=True)
class AdaptedLayer:
    """A linear layer with an adapter: `scaling * B @ A` is added to its weight.

    Attributes:
        name: Of the layer, by PEFT.
        a_name: Of `lora_a_RI` among the adapter's weights.
        b_name: Of `lora_b_OR`.
        scaling: Factor on the product.
        map_a: The linear map by A; what goes into it is what goes into the layer.
        map_b: The one by B, which follows it.
    """

    name: str
    a_name: str
    b_name: str
    scaling: float
    map_a: nn.Module
    map_b: nn.Module

    def delta(self, weights: Tensors) -> Tensor:
        """What adapter weights add to the layer's weight: O x I, in float64."""
        return self.scaling * (weights[self.b_name].double() @ weights[self.a_name].double())

    def change(self, trained: Tensors, initial: Tensors) -> Tensor:
        """What the user's training added to the layer's weight: O x I, in float64."""
        return self.delta(trained) - self.delta(initial)

    def replaced(self, weights: Tensors, left_OK: Tensor, right_KI: Tensor) -> "Replacement":
        """The move of the two weights that makes their product `left @ right`, as far as it goes.

        Args:
            weights: Present weights of the adapter.
            left_OK: The product's left side; without the scaling, in any precision.
            right_KI: The product's right side.
        """
        a_RI, b_OR = weights[self.a_name], weights[self.b_name]
        near = Factors(a_RI.double(), b_OR.double(), 0.0)
        found = low_rank_factors(left_OK.double(), right_KI.double(), near)
        move = {
            self.a_name: (found.a_RI - near.a_RI).to(a_RI.dtype),
            self.b_name: (found.b_OR - near.b_OR).to(b_OR.dtype),
        }
        return Replacement(move, found.lost_share)


@dataclass(frozen=True)
class Replacement:
    """A move of one layer's weights.

    Attributes:
        tensors: By the names of the two weights.
        lost_share: Norm of what the rank could not hold, as a share of the product's.
    """

    tensors: Tensors
    lost_share: float


def adapted_layers(model: nn.Module) -> list[AdaptedLayer]:
    """Every adapted layer of a model, in the order of its parameters."""
    names = [name.removesuffix(_A) for name in trainable_parameters(model) if name.endswith(_A)]
    layers = []
    for name in names:
        layer: Any = model.get_submodule(name)  # PEFT's class around the linear layer
        layers.append(
            AdaptedLayer(
                name=name,
                a_name=name + _A,
                b_name=name + _B,
                scaling=float(layer.scaling[ADAPTER_NAME]),
                map_a=layer.lora_A[ADAPTER_NAME],
                map_b=layer.lora_B[ADAPTER_NAME],
            )
        )
    return layers


def layers_by_memory(
    layers: Sequence[AdaptedLayer], weights: Tensors, copies: int = 1
) -> Iterator[list[AdaptedLayer]]:
    """All layers in groups, so that their J x J matrices fit into memory, `copies` of each."""
    group: list[AdaptedLayer] = []
    size = 0
    for layer in layers:
        inputs = weights[layer.a_name].shape[1]
        needed = copies * inputs**2 * weights[layer.a_name].element_size()
        if group and size + needed > _GROUP_BYTES:
            yield group
            group, size = [], 0
        group.append(layer)
        size += needed
    yield group


def require_alignment(layers: Iterable[AdaptedLayer], initial: Tensors) -> None:
    """Refuse an adapter that adds nothing to the model before it is trained.

    Raises:
        InvalidConfigError: Every B is zero.
    """
    if not any(bool(initial[layer.b_name].count_nonzero()) for layer in layers):
        raise InvalidConfigError(
            "type",
            "the method compares with the alignment, and this job begins without an aligned "
            "adapter; name a base model that has one, or another defense",
        )


def on_device_of(tensors: Tensors, like: Tensors) -> dict[str, Tensor]:
    """The tensors where their namesakes in `like` are."""
    return {name: tensor.to(like[name].device) for name, tensor in tensors.items()}
