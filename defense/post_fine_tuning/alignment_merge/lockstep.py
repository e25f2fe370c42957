"""A model as it was and as it is being merged, run side by side through its layers.

Shapes: B rows, T tokens, N tokens of some rows, O outputs and J inputs of a linear layer, D the
model's width.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from defense.ops.adapted_layers import AdaptedLayer
from defense.protocols import IGNORED, EncodedRow, Tensors
from defense.training.batching import Batch, by_length
from defense.training.hidden_states import Part, at_least_float32, parts_of_layers
from defense.training.lora import ADAPTER_NAME
from defense.training.loss import ROWS_PER_PASS, AdapterLoss

TOKENS_PER_PASS = 4096

Listener = Callable[[str, Tensor, Tensor], None]
"""Told the name of an adapted layer, its inputs and its outputs."""


@dataclass(frozen=True)
class Block:
    """One decoder layer of a model, with the linear layers in it that have an adapter.

    Attributes:
        name: Of the decoder layer.
        module: The decoder layer.
        adapted: By their names within it.
    """

    name: str
    module: nn.Module
    adapted: Mapping[str, AdaptedLayer]

    def run(
        self,
        weights: Tensors,
        state_BTD: Tensor,
        arguments: Mapping[str, Any],
        listener: Listener | None = None,
    ) -> Tensor:
        """Compute the layer's output at other weights of the adapter; the model stays as it is."""
        replaced = {}
        for inner, layer in self.adapted.items():
            replaced[f"{inner}.lora_A.{ADAPTER_NAME}.weight"] = weights[layer.a_name]
            replaced[f"{inner}.lora_B.{ADAPTER_NAME}.weight"] = weights[layer.b_name]
        with torch.no_grad(), self._heard(listener):
            output = torch.func.functional_call(
                self.module, replaced, (state_BTD,), dict(arguments)
            )
        state: Tensor = output[0] if isinstance(output, tuple) else output
        return state

    @contextmanager
    def _heard(self, listener: Listener | None) -> Iterator[None]:
        with ExitStack() as stack:
            if listener is not None:
                for inner, layer in self.adapted.items():
                    hook = partial(_tell, listener, layer.name)
                    heard = self.module.get_submodule(inner)
                    stack.callback(heard.register_forward_hook(hook).remove)
            yield


def _tell(
    listener: Listener, name: str, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> None:
    listener(name, inputs[0], output)


def blocks_of(model: nn.Module, layers: Sequence[AdaptedLayer]) -> list[Block]:
    """The decoder layers in the order in which they compute.

    Raises:
        InvalidConfigError: The model's layers have no names that are known.
    """
    found = parts_of_layers(model, Part.LAYER)
    return [
        Block(
            name,
            module,
            {
                layer.name.removeprefix(f"{name}."): layer
                for layer in layers
                if layer.name.startswith(f"{name}.")
            },
        )
        for name, module in found.items()
    ]


@dataclass(frozen=True)
class Regression:
    """What is known of one linear layer on some rows: sums over their tokens.

    Attributes:
        gram_JJ: Of `x x'`, `x` the layer's input in the model as it is being merged.
        drift_OJ: Of `d x'`, `d` what its output there lacks of that in the model as it was.
    """

    gram_JJ: Tensor
    drift_OJ: Tensor


@dataclass
class _Group:
    """A few rows on their way through the model.

    Attributes:
        was_BTD: What goes into the next decoder layer in the model as it was.
        merged_BTD: The same in the model as it is being merged.
        real_N: Which tokens are no padding, all rows behind each other.
        counts_N: What each of those that are real counts.
        arguments: The other arguments of each decoder layer; those of the first serve all that
            are not named.
    """

    was_BTD: Tensor
    merged_BTD: Tensor
    real_N: Tensor
    counts_N: Tensor
    arguments: Mapping[str, Mapping[str, Any]]


class Lockstep:
    """Rows on their way through the model, at the weights whose outputs are to be kept on them.

    Args:
        source: The model; left as it is.
        blocks: All of its decoder layers.
        rows: What it reads.
        weights: Of the adapter.
        answer_weight: What a token that predicts one of the answer's counts; the others count 1.
    """

    def __init__(
        self,
        source: AdapterLoss,
        blocks: Sequence[Block],
        rows: Sequence[EncodedRow],
        weights: Tensors,
        answer_weight: float,
    ) -> None:
        self._weights = weights
        self._first = blocks[0].name
        self._groups = []
        for group in _groups(rows):
            batch = source.batch(group)
            state_BTD, arguments = _arguments(source, blocks, group, weights)
            real_N = batch.attention_mask_BT.flatten().bool()
            counts_N = _counts(batch, answer_weight).flatten()[real_N]
            self._groups.append(_Group(state_BTD, state_BTD, real_N, counts_N, arguments))

    def read(self, block: Block) -> dict[str, Regression]:
        """Take the model as it was through a decoder layer, and compare the two in it."""
        found: dict[str, Regression] = {}
        for group in self._groups:
            arguments = self._arguments_of(block, group)
            expected: dict[str, Tensor] = {}
            group.was_BTD = block.run(
                self._weights, group.was_BTD, arguments, partial(_keep, expected)
            )
            listener = partial(self._compare, found, expected, group)
            block.run(self._weights, group.merged_BTD, arguments, listener)
        return found

    def advance(self, block: Block, merged: Tensors) -> None:
        """Take the model as it is being merged through a decoder layer that is."""
        for group in self._groups:
            arguments = self._arguments_of(block, group)
            group.merged_BTD = block.run(merged, group.merged_BTD, arguments)

    def _arguments_of(self, block: Block, group: _Group) -> Mapping[str, Any]:
        return group.arguments.get(block.name, group.arguments[self._first])

    @staticmethod
    def _compare(
        found: dict[str, Regression],
        expected: Mapping[str, Tensor],
        group: _Group,
        name: str,
        inputs_BTJ: Tensor,
        outputs_BTO: Tensor,
    ) -> None:
        inputs_NJ = at_least_float32(inputs_BTJ.flatten(end_dim=-2)[group.real_N])
        lacking_NO = at_least_float32(
            (expected[name] - outputs_BTO).flatten(end_dim=-2)[group.real_N]
        )
        counted_JN = (inputs_NJ * group.counts_N[:, None]).T
        gram_JJ, drift_OJ = counted_JN @ inputs_NJ, (counted_JN @ lacking_NO).T
        if name in found:
            gram_JJ += found[name].gram_JJ
            drift_OJ += found[name].drift_OJ
        found[name] = Regression(gram_JJ, drift_OJ)


def _groups(rows: Sequence[EncodedRow]) -> Iterator[list[EncodedRow]]:
    """Rows of similar length, so many that a pass holds about as much as one of short rows."""
    for group in by_length(rows, ROWS_PER_PASS):
        longest = max(len(row.input_ids) for row in group)
        yield from by_length(group, max(1, min(ROWS_PER_PASS, TOKENS_PER_PASS // longest)))


def _keep(outputs: dict[str, Tensor], name: str, _inputs: Tensor, output: Tensor) -> None:
    outputs[name] = output


def _counts(batch: Batch, answer_weight: float) -> Tensor:
    """What each token counts, for all tokens of a batch."""
    counts_BT = torch.ones_like(batch.labels_BT, dtype=torch.float32)
    counts_BT[:, :-1][batch.labels_BT[:, 1:] != IGNORED] = answer_weight
    return counts_BT


class _ReachedError(Exception):
    """What is needed of a pass is known."""


def _arguments(
    source: AdapterLoss, blocks: Sequence[Block], rows: Sequence[EncodedRow], weights: Tensors
) -> tuple[Tensor, dict[str, Mapping[str, Any]]]:
    """What goes into the first decoder layer, and with which arguments each is called.

    Where all are of one kind, the pass ends at the first.
    """
    config: Any = getattr(source.model, "config", None)
    is_mixed = len(set(getattr(config, "layer_types", None) or ())) > 1
    last = blocks[-1 if is_mixed else 0].name
    states: list[Tensor] = []
    arguments: dict[str, Mapping[str, Any]] = {}

    def note(name: str, _: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        states.append(given[0] if given else named["hidden_states"])
        arguments[name] = {key: value for key, value in named.items() if key != "hidden_states"}
        if name == last:
            raise _ReachedError

    with ExitStack() as stack:
        for block in blocks:
            hook = block.module.register_forward_pre_hook(
                partial(note, block.name), with_kwargs=True
            )
            stack.callback(hook.remove)
        with torch.no_grad(), suppress(_ReachedError):
            source.loss_sum(rows, weights)
    return states[0], arguments
