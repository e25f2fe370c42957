"""What each layer's part of a perturbation does: the losses with it alone, and with all but it.

Two effects of every layer, on each kind of rows, both with the sign of the change they make:

- added first: the loss with this layer's part alone, minus the loss of the trained adapter;
- added last: the loss of the whole perturbation, minus the loss with all parts but this one.

They are equal where layers act independently. Where they differ, what a layer does depends on what
the others do, and neither number alone is its contribution.

All losses are of the same rows, so effects are means of differences row by row, and so are their
bootstrap intervals. Each holds for itself, not all of them at once: of many layers without any
effect, one in twenty has an interval that misses zero.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from defense.evaluation.bootstrap import RESAMPLES, Bootstrap, Estimate
from defense.ops.layers import Layer, all_but_layer, layers_of, only_layer
from defense.ops.tensors import apply_perturbation, scaled
from defense.protocols import EncodedRow, GradientSource, Tensors
from defense.training.batching import supervised_rows

Losses = Mapping[str, Tensor]
"""One number for each row, by kind of rows."""


@dataclass(frozen=True)
class KindEffects:
    """Losses of one kind of rows and what the whole perturbation does to them.

    A row's loss is the mean over its supervised tokens, in nats; every row counts the same.

    Attributes:
        rows: How many.
        loss_trained: Without the perturbation.
        loss_guarded: With all of it.
        whole: The second minus the first.
    """

    rows: int
    loss_trained: Estimate
    loss_guarded: Estimate
    whole: Estimate


@dataclass(frozen=True)
class LayerEffect:
    """What one layer's part does, by kind of rows.

    Attributes:
        layer: Counted from 0; None is all that lies outside the stack of layers.
        added_first: Change of the loss when this part is added to the trained adapter.
        added_last: Change of the loss when it is added to all other parts.
    """

    layer: Layer
    added_first: Mapping[str, Estimate]
    added_last: Mapping[str, Estimate]


@dataclass(frozen=True)
class LayerAblation:
    """What all parts of a perturbation do at one strength.

    Attributes:
        strength: Of the perturbation.
        seed: Of the resamples.
        resamples: How many.
        kinds: By kind of rows.
        layers: In order.
    """

    strength: float
    seed: int
    resamples: int
    kinds: Mapping[str, KindEffects]
    layers: tuple[LayerEffect, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain objects, lists and numbers."""
        return {**asdict(self), "layers": [asdict(effect) for effect in self.layers]}


@dataclass(frozen=True)
class LayerTrial:
    """One perturbation of one trained adapter, and the rows that its layers are judged by.

    Attributes:
        source: The model's loss as a function of its adapter; in evaluation mode, left as it is.
        trained: The adapter without the perturbation, where the model is.
        perturbation: The move at strength 1.
        strength: At which it is measured.
        rows: By kind, such as `harmful` and `refusals`; none that anything was learned from.
        seed: Of the resamples.
        on_row: Called after each pass.
    """

    source: GradientSource
    trained: Tensors
    perturbation: Tensors
    strength: float
    rows: Mapping[str, Sequence[EncodedRow]]
    seed: int
    on_row: Callable[[], None] = lambda: None

    @property
    def passes(self) -> int:
        """How many passes forward, of one row each, `measure` takes at most."""
        variants = 2 * len(layers_of(self.perturbation)) + 2
        return variants * sum(len(rows) for rows in self.rows.values())

    def measure(self) -> LayerAblation:
        """Take the losses with each layer's part alone, and with all the others without it.

        Raises:
            NoSupervisedTokensError: A kind of rows has nothing to take a loss of.
            NumericalDivergenceError: A loss is not finite.
            ValueError: The perturbation is not of this adapter.
        """
        kinds = {name: supervised_rows(rows, name) for name, rows in self.rows.items()}
        draws = {name: Bootstrap(len(rows), self.seed) for name, rows in kinds.items()}

        def losses(move: Tensors) -> dict[str, Tensor]:
            at = apply_perturbation(self.trained, move, self.strength)
            return {name: self._losses(rows, at) for name, rows in kinds.items()}

        def change(minuend: Losses, subtrahend: Losses) -> dict[str, Estimate]:
            return {name: draws[name].mean(minuend[name] - subtrahend[name]) for name in kinds}

        trained, guarded = losses(scaled(self.perturbation, 0.0)), losses(self.perturbation)
        layers = tuple(
            LayerEffect(
                layer=layer,
                added_first=change(losses(only_layer(self.perturbation, layer)), trained),
                added_last=change(guarded, losses(all_but_layer(self.perturbation, layer))),
            )
            for layer in layers_of(self.perturbation)
        )
        whole = change(guarded, trained)
        effects = {
            name: KindEffects(
                rows=len(rows),
                loss_trained=draws[name].mean(trained[name]),
                loss_guarded=draws[name].mean(guarded[name]),
                whole=whole[name],
            )
            for name, rows in kinds.items()
        }
        return LayerAblation(self.strength, self.seed, RESAMPLES, effects, layers)

    def _losses(self, rows: Sequence[EncodedRow], at: Tensors) -> Tensor:
        """The loss of every row; one pass each, so that no padding is read."""
        found = []
        for row in rows:
            found.append(self.source.mean_loss([row], at))
            self.on_row()
        return torch.tensor(found, dtype=torch.float64)
