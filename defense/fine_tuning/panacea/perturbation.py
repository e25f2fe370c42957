"""Panacea's last move: one perturbation of the trained adapter, built but not applied.

It is kept apart from the trained weights, so that its strength can be chosen, changed or undone
later: the guarded adapter is `trained + strength * perturbation`, of the same rank.

Directions (why the default is not the published one: `docs/decisions/0005-perturbation-direction`):
- `harmful_ascent`: up the loss of harmful answers. Published, with one step. Says what not to say,
  and nothing about what to say instead: once strong enough to matter, it tends to break the model.
- `refusal_descent`: down the loss of the operator's refusals.
- `both`: the sum of the two unit vectors, the ascent weighted.

The perturbation is built in steps of one length; each step's gradients are computed anew at the
weights reached so far. In the two directions that use refusals, whatever in a step would
raise the loss of the user's rows or of benign rows is taken out of it first.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from defense.errors import InvalidConfigError, NumericalDivergenceError
from defense.fine_tuning.panacea.config import PanaceaConfig
from defense.ops.projection import Projection, project_out_conflicts
from defense.ops.tensors import added, check_same_shapes, global_norm, resized, scaled
from defense.protocols import (
    EncodedRow,
    GradientSource,
    LossGradients,
    Perturbation,
    PerturbationStep,
    Tensors,
)
from defense.training.batching import RowSampler, supervised_rows

# A step of which less than this share is left after the projection has no direction of its own.
_SMALLEST_SHARE = 1e-6

_PROTECTED = ("task", "benign")


@dataclass(frozen=True)
class ReferenceRows:
    """The rows a perturbation is computed from.

    Attributes:
        harmful: The defender's harmful rows.
        refusals: The operator's harmful prompts with refusals.
        task: The user's own rows.
        benign: General helpful answers, and those to harmless look-alikes.
    """

    harmful: Sequence[EncodedRow]
    refusals: Sequence[EncodedRow]
    task: Sequence[EncodedRow]
    benign: Sequence[EncodedRow]


StepListener = Callable[[PerturbationStep], None]


def build_perturbation(
    source: GradientSource,
    config: PanaceaConfig,
    rows: ReferenceRows,
    seed: int,
    *,
    last_probe: Tensors | None = None,
    on_step: StepListener | None = None,
) -> Perturbation:
    """Compute the perturbation at the source's present weights, which stay as they are.

    Args:
        source: Loss at the trained weights; in evaluation mode.
        config: Direction, radius, number of steps.
        rows: Reference rows; only the sets that the direction uses are read.
        seed: Of the choice of reference rows.
        last_probe: The guard's last probe, for `final_perturbation = "last_batch"`.
        on_step: Told about every step; may raise to stop.

    Returns:
        The perturbation, and a log of how it was built.

    Raises:
        InvalidConfigError: `last_batch` was asked for and no probe is at hand.
        NoSupervisedTokensError: A set of rows that is needed has nothing to learn from.
        NumericalDivergenceError: A loss or gradient is not finite.
    """
    if config.final_perturbation == "last_batch":
        if last_probe is None:
            raise InvalidConfigError(
                "final_perturbation",
                "'last_batch' needs a guarded optimizer step; this training had none "
                "(lower guard_interval or train longer)",
            )
        return Perturbation(dict(last_probe), global_norm(last_probe), (), {}, {})
    return _Builder(source, config, rows, seed).build(on_step)


def apply_perturbation(
    trained: Tensors, perturbation: Tensors, strength: float
) -> dict[str, Tensor]:
    """The guarded adapter: `trained + strength * perturbation`; strength 0 changes no bit.

    Computed in float64 and rounded once, so that every processor gives the same bits: whether a
    multiplication and the addition behind it are rounded as one differs between them.
    """
    if strength == 0:
        return {name: tensor.clone() for name, tensor in trained.items()}
    check_same_shapes(trained, perturbation)
    guarded: dict[str, Tensor] = {}
    for name, weight in trained.items():
        move = strength * perturbation[name].double()  # apart: one call might fuse the two
        guarded[name] = (weight.double() + move).to(weight.dtype)
    return guarded


class _Builder:
    def __init__(
        self, source: GradientSource, config: PanaceaConfig, rows: ReferenceRows, seed: int
    ) -> None:
        self._source = source
        self._config = config
        self._trained = source.weights()
        self._harmful = config.perturbation_direction in ("harmful_ascent", "both")
        self._aligned = config.perturbation_direction in ("refusal_descent", "both")
        self._samplers: dict[str, RowSampler] = {}
        wanted: list[tuple[str, Sequence[EncodedRow], bool]] = [
            # The published direction is the gradient over the whole harmful set.
            ("harmful", rows.harmful, self._harmful),
            ("refusals", rows.refusals, self._aligned),
            ("task", rows.task, self._aligned),
            ("benign", rows.benign, self._aligned),
        ]
        for name, given, needed in wanted:
            if needed:
                usable = supervised_rows(given, name)
                size = self._rows_per_step(name, len(usable))
                self._samplers[name] = RowSampler(usable, size, seed)

    def _rows_per_step(self, name: str, available: int) -> int:
        if not self._aligned:
            return available
        wanted = self._config.reference_rows
        # A protected gradient only has to show a conflict; half the rows are enough for that.
        return min(available, -(-wanted // 2) if name in _PROTECTED else wanted)

    def build(self, on_step: StepListener | None) -> Perturbation:
        first_rows: dict[str, list[EncodedRow]] = {}
        steps: list[PerturbationStep] = []
        total = {name: torch.zeros_like(weight) for name, weight in self._trained.items()}
        for number in range(1, self._config.perturbation_steps + 1):
            rows = {name: sampler.next_batch() for name, sampler in self._samplers.items()}
            first_rows = first_rows or rows
            at = added(self._trained, total)
            measured = {name: self._source.gradients(batch, at) for name, batch in rows.items()}
            projection = self._direction(measured)
            move = self._move(projection, measured)
            if move is not None:
                total = added(total, move)
            steps.append(_log_of(number, measured, projection))
            if on_step is not None:
                on_step(steps[-1])
            if move is None:
                break
        return Perturbation(
            tensors={name: tensor.cpu() for name, tensor in total.items()},
            norm=global_norm(total),
            steps=tuple(steps),
            losses_before=steps[0].losses,
            losses_after=self._losses(first_rows, added(self._trained, total)),
        )

    def _direction(self, measured: Mapping[str, LossGradients]) -> Projection:
        """This step's direction before it gets its length."""
        if not self._aligned:
            return Projection(measured["harmful"].gradients, {}, {})
        descent = resized(measured["refusals"].gradients, -1.0)
        if self._harmful:
            ascent = resized(measured["harmful"].gradients, self._config.harmful_ascent_weight)
            descent = added(descent, ascent)
        protected = {name: measured[name].gradients for name in _PROTECTED}
        return project_out_conflicts(descent, protected)

    def _move(
        self, projection: Projection, measured: Mapping[str, LossGradients]
    ) -> dict[str, Tensor] | None:
        left = global_norm(projection.tensors)
        if not torch.isfinite(torch.tensor(left)):
            raise NumericalDivergenceError(
                f"the perturbation's gradient norm became {left}; lower perturbation_radius"
            )
        given = 1.0 if self._aligned else global_norm(measured["harmful"].gradients)
        if left <= _SMALLEST_SHARE * given:
            return None
        return scaled(projection.tensors, self._config.perturbation_radius / left)

    def _losses(self, rows: Mapping[str, Sequence[EncodedRow]], at: Tensors) -> dict[str, float]:
        return {name: self._source.mean_loss(batch, at) for name, batch in rows.items()}


def _log_of(
    number: int, measured: Mapping[str, LossGradients], projection: Projection
) -> PerturbationStep:
    return PerturbationStep(
        step=number,
        losses={name: result.loss for name, result in measured.items()},
        gradient_norms={name: global_norm(result.gradients) for name, result in measured.items()},
        cosines=projection.cosines,
        removed=projection.removed,
        projection_fired=projection.fired,
    )
