"""Sketches of rows' gradients, and every score of a row that is compared.

A sketch sums the entries of a gradient, with random signs, into buckets: cosines of sketches are
those of the gradients to within about one over the root of the number of buckets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from defense.evaluation.row_attribution import ROWS_PER_PASS
from defense.ops.per_row_gradients import RowPass
from defense.protocols import EncodedRow
from defense.training.loss import AdapterLoss

BUCKETS = 2**15
NEAREST = 5


@dataclass(frozen=True)
class Gradients:
    """Gradients of some rows.

    Attributes:
        units: Sketches of length 1, one a line.
        norms: Lengths of the gradients.
        losses: Mean token losses.
    """

    units: Tensor
    norms: Tensor
    losses: Tensor

    @property
    def mean(self) -> Tensor:
        """Mean of the unit gradients."""
        return self.units.mean(0)

    @property
    def raw_mean(self) -> Tensor:
        """Mean of the gradients themselves."""
        return (self.units * self.norms[:, None]).mean(0)


class Sketcher:
    """Makes sketches that can be compared with each other.

    Args:
        loss: Of the model, at the weights before training.
    """

    def __init__(self, loss: AdapterLoss) -> None:
        self._loss = loss
        draw = torch.Generator().manual_seed(0)
        self._places: dict[str, tuple[Tensor, Tensor]] = {}
        for name, weight in loss.weights().items():
            buckets = torch.randint(BUCKETS, (weight.numel(),), generator=draw)
            signs = torch.randint(2, (weight.numel(),), generator=draw) * 2.0 - 1
            self._places[name] = buckets.to(weight.device), signs.to(weight)

    def gradients(self, rows: Sequence[EncodedRow]) -> Gradients:
        """Sketch each row's gradient."""
        order = sorted(range(len(rows)), key=lambda place: len(rows[place].input_ids))
        units, norms, losses = [], [], []
        for start in range(0, len(order), ROWS_PER_PASS):
            found = RowPass(
                self._loss, [rows[place] for place in order[start : start + ROWS_PER_PASS]]
            )
            sketch = torch.zeros(len(found.norms_B), BUCKETS, device=found.norms_B.device)
            for name, gradients in found.layers():
                buckets, signs = self._places[name]
                sketch.index_add_(1, buckets, gradients.flatten(1).float() * signs)
            units.append(torch.nn.functional.normalize(sketch, dim=1))
            norms.append(found.norms_B.float())
            losses.append(found.losses_B.float())
        back = torch.tensor(order).argsort()
        return Gradients(*(torch.cat(part).cpu()[back] for part in (units, norms, losses)))


def scores(
    user: Gradients, harmful: Gradients, benign: Gradients, refusals: Gradients
) -> dict[str, Tensor]:
    """Every score of the user's rows, by its name."""
    h, b, r, u = (kind.mean for kind in (harmful, benign, refusals, user))
    near = {
        kind: (user.units @ rows.units.T).topk(min(NEAREST, len(rows.units))).values.mean(1)
        for kind, rows in (("H", harmful), ("B", benign))
    }
    gradients = harmful.raw_mean, benign.raw_mean
    return {
        "<g, H>": user.norms * (user.units @ gradients[0]),
        "<g, H - B>": user.norms * (user.units @ (gradients[0] - gradients[1])),
        "H - B, times root of norm": user.norms.sqrt() * (user.units @ (h - b)),
        **{
            name: user.units @ torch.nn.functional.normalize(direction, dim=0)
            for name, direction in {
                "H": h,
                "H - B": h - b,
                "H - R": h - r,
                "2H - B - R": 2 * h - b - r,
                "H - U": h - u,
                "H without B": _without(h, [b]),
                "H without B, R": _without(h, [b, r]),
                "H without U": _without(h, [u]),
                "H - B without U": _without(h - b, [u]),
            }.items()
        },
        f"nearest {NEAREST} of H": near["H"],
        f"nearest {NEAREST} of H, of B": near["H"] - near["B"],
        "loss": user.losses,
        "norm": user.norms,
    }


def _without(direction: Tensor, others: Sequence[Tensor]) -> Tensor:
    """What of a direction is at right angles with all others."""
    base: Tensor = torch.linalg.qr(torch.stack(list(others), dim=1)).Q
    return direction - base @ (base.T @ direction)
