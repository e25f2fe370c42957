"""Steps that do not raise losses they should leave alone.

Moving along `v` raises a loss with gradient `b` at the rate `<v, b>`. With one such loss, removing
`max(0, <v, b> / <b, b>) b` takes exactly the harmful component away and leaves a helpful one in
place. With several, removing them one after another can bring the first conflict back, so the
nearest vector that conflicts with none is computed instead (Hildreth's method on the Gram matrix:
cyclic corrections of non-negative multipliers; its first sweep is the formula above).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from defense.ops.tensors import added, cosine, inner
from defense.protocols import Tensors

_MAX_SWEEPS = 1000
_TOLERANCE = 1e-12
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Projection:
    """A direction without its conflicts.

    Attributes:
        tensors: The nearest direction along which no protected loss rises, to first order.
        cosines: Between the direction as it was given and each protected gradient; above zero
            means a conflict.
        removed: Multiple of each protected gradient that was taken away.
    """

    tensors: Tensors
    cosines: Mapping[str, float]
    removed: Mapping[str, float]

    @property
    def fired(self) -> bool:
        """Whether there was a conflict to remove."""
        return any(multiple > 0 for multiple in self.removed.values())


def project_out_conflicts(direction: Tensors, protected: Mapping[str, Tensors]) -> Projection:
    """Remove from a direction what would raise the protected losses.

    Args:
        direction: The step that is wanted.
        protected: Gradients of the losses that must not rise, by name.

    Returns:
        The nearest direction `v` with `<v, b> <= 0` for every protected `b`.
    """
    names = [name for name, gradient in protected.items() if inner(gradient, gradient) > 0]
    gram = [[inner(protected[row], protected[column]) for column in names] for row in names]
    conflicts = [inner(direction, protected[name]) for name in names]
    multipliers = _multipliers(gram, conflicts)
    result: dict[str, Tensor] = dict(direction)
    for name, multiplier in zip(names, multipliers, strict=True):
        if multiplier > 0:
            result = added(result, protected[name], -multiplier)
    removed = dict.fromkeys(protected, 0.0) | dict(zip(names, multipliers, strict=True))
    cosines = {name: cosine(direction, gradient) for name, gradient in protected.items()}
    return Projection(result, cosines, removed)


def _multipliers(gram: Sequence[Sequence[float]], conflicts: Sequence[float]) -> list[float]:
    multipliers = [0.0] * len(conflicts)
    for _ in range(_MAX_SWEEPS):
        largest_change = 0.0
        for index, row in enumerate(gram):
            left = conflicts[index] - sum(m * g for m, g in zip(multipliers, row, strict=True))
            corrected = max(0.0, multipliers[index] + left / row[index])
            largest_change = max(largest_change, abs(corrected - multipliers[index]))
            multipliers[index] = corrected
        if largest_change <= _TOLERANCE * max(multipliers, default=0.0):
            break
    # What is left of a conflict that another correction removed is rounding, not a conflict.
    rounding = _ROUNDING * max(multipliers, default=0.0)
    return [multiplier if multiplier > rounding else 0.0 for multiplier in multipliers]
