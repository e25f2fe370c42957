"""What every single row of a batch asks of the adapter, from one pass forward and one back.

The two matrices of a LoRA layer are linear maps, so the gradient of row `b` alone is
`sum_t slopes[b, t] inputs[b, t]^T`: what goes into the map, and how the row's loss changes with
what comes out of it. Both are there for all rows after one common pass, as rows of a batch do not
see each other. Nothing is summed up in the model's own `grad` fields, and no gradient of a whole
batch of rows is ever held at once: layers are looked at one after another.

Shapes: B rows, T tokens of the longest row, I a map's inputs, O its outputs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from defense.protocols import EncodedRow, Tensors
from defense.training.lora import trainable_parameters
from defense.training.loss import AdapterLoss


@dataclass(frozen=True)
class _Map:
    """One linear map of the adapter during one pass."""

    inputs_BTI: Tensor
    slopes_BTO: Tensor

    def gradients(self) -> Tensor:
        return torch.einsum("bto,bti->boi", self.slopes_BTO, self.inputs_BTI)


class RowPass:
    """Mean token losses of some rows and their gradients, each row by itself.

    Args:
        loss: Of a model in evaluation mode, at its present weights.
        rows: Each with a supervised token.

    Attributes:
        losses_B: Mean token loss of each row.
        norms_B: L2 norm of each row's gradient over all adapter weights.
    """

    def __init__(self, loss: AdapterLoss, rows: Sequence[EncodedRow]) -> None:
        batch = loss.batch(rows)
        maps = _linear_maps(loss.model)
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        with torch.enable_grad(), _watched(maps, inputs, outputs):
            log_probabilities_B, _ = loss.row_log_probabilities(batch)
            counts = [float(row.supervised_tokens) for row in rows]
            losses_B = -log_probabilities_B / log_probabilities_B.new_tensor(counts)
            slopes = torch.autograd.grad(losses_B.sum(), list(outputs.values()))
        self._maps = {
            name: _Map(inputs[name], slope) for name, slope in zip(outputs, slopes, strict=True)
        }
        self.losses_B = losses_B.detach()
        squares = (gradients.flatten(1).double().square().sum(1) for _, gradients in self.layers())
        self.norms_B = torch.stack(list(squares)).sum(0).sqrt()

    def layers(self) -> Iterator[tuple[str, Tensor]]:
        """Each adapter weight's name with the gradients of all rows, first dimension B."""
        for name, each in self._maps.items():
            yield name, each.gradients()

    def inner(self, direction: Tensors) -> Tensor:
        """Inner product of each row's gradient with a direction."""
        parts = [
            (gradients * direction[name]).flatten(1).double().sum(1)
            for name, gradients in self.layers()
        ]
        return torch.stack(parts).sum(0)

    def weighted_sum(self, weights_B: Tensor) -> dict[str, Tensor]:
        """Sum of the rows' gradients, each times its weight."""
        return {
            name: torch.einsum(
                "b,bto,bti->oi",
                weights_B.to(each.slopes_BTO.dtype),
                each.slopes_BTO,
                each.inputs_BTI,
            )
            for name, each in self._maps.items()
        }


def _linear_maps(model: nn.Module) -> dict[str, nn.Module]:
    """The adapter's matrices by their names, as the modules that apply them."""
    owners: dict[int, nn.Module] = {
        id(module.weight): module for module in model.modules() if isinstance(module, nn.Linear)
    }
    parameters = trainable_parameters(model)
    strange = [name for name, parameter in parameters.items() if id(parameter) not in owners]
    if strange:
        raise ValueError(f"{strange[0]} is not the weight of a linear map")
    return {name: owners[id(parameter)] for name, parameter in parameters.items()}


@contextmanager
def _watched(
    maps: dict[str, nn.Module], inputs: dict[str, Tensor], outputs: dict[str, Tensor]
) -> Iterator[None]:
    """Keep what goes into each map and what comes out, while the block runs."""

    def keep(name: str, _module: nn.Module, given: tuple[Any, ...], output: Tensor) -> None:
        inputs[name], outputs[name] = given[0].detach(), output

    handles = [each.register_forward_hook(partial(keep, name)) for name, each in maps.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
