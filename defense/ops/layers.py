"""Which transformer layer a weight belongs to, and vectors cut along the layers."""

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from defense.protocols import Tensors

_NUMBER = re.compile(r"\.(\d+)\.")

Layer = int | None
"""A layer's number from 0, from the embeddings upwards; None is all that lies outside the stack."""


def layer_of(name: str) -> Layer:
    """The layer that a weight belongs to, by its name.

    The first number of a dotted name counts the layers, in every architecture that transformers
    has for causal models; later ones count what is inside a layer, such as experts.
    """
    found = _NUMBER.search(name)
    return int(found[1]) if found else None


def layers_of(names: Iterable[str]) -> list[Layer]:
    """Every layer that has a weight, in order; what lies outside the stack comes last."""
    found = {layer_of(name) for name in names}
    return sorted(found, key=lambda layer: (layer is None, layer or 0))


def only_layer(tensors: Tensors, layer: Layer) -> dict[str, Tensor]:
    """The vector with zeros in all other layers; its own tensors are not copied."""
    return {
        name: tensor if layer_of(name) == layer else torch.zeros_like(tensor)
        for name, tensor in tensors.items()
    }


def all_but_layer(tensors: Tensors, layer: Layer) -> dict[str, Tensor]:
    """The vector with zeros in this layer; the other tensors are not copied."""
    return {
        name: torch.zeros_like(tensor) if layer_of(name) == layer else tensor
        for name, tensor in tensors.items()
    }
