"""Layer safety affinity: where the perturbation lies, and what each layer's part does."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.plots.style import BLUE, GREY, ORANGE, panels

NAME: Final = "layer_affinity"

_KINDS: Final = (("refusals", "refusals"), ("harmful", "harmful answers"))
_MOST_TICKS: Final = 16
_WIDTH: Final = 0.4  # of a bar, of the distance between two layers


def draw(report: Mapping[str, Any]) -> Figure | None:
    """Draw the section `layer_affinity`; None if the report has none.

    Shares come first. With an ablation, a panel for each kind of rows follows.
    """
    section = report.get("layer_affinity")
    if section is None:
        return None
    ablation = section.get("ablation") or {"kinds": {}}
    kinds = [(kind, words) for kind, words in _KINDS if kind in ablation["kinds"]]
    figure, axes = panels(1 + len(kinds), "Layer safety affinity of the perturbation")
    places = _places(section["layers"])
    _shares(axes[0], places, section["layers"])
    for panel, (kind, words) in zip(axes[1:], kinds, strict=True):
        _effects(panel, places, ablation, kind)
        effect = ablation["kinds"][kind]
        panel.set_title(
            f"Loss of {words}, {effect['rows']} rows, with 95 % intervals: "
            f"all layers together {effect['whole']['value']:+.3g}",
            fontsize=10.5,
        )
    _name_layers(axes[-1], places, section["layers"])
    return figure


def _places(layers: Sequence[Mapping[str, Any]]) -> list[int]:
    """Where each layer stands; what lies outside the stack stands behind a gap."""
    numbers = [share["layer"] for share in layers if share["layer"] is not None]
    behind = max(numbers, default=-2) + 2
    return [behind if share["layer"] is None else share["layer"] for share in layers]


def _shares(axes: Axes, places: Sequence[int], layers: Sequence[Mapping[str, Any]]) -> None:
    for side, name, colour, hatch, label in (
        (-0.5, "weight_change_share", BLUE, None, "of the change of the model's weights"),
        (0.5, "perturbation_share", ORANGE, "///", "of the perturbation of the adapter"),
    ):
        axes.bar(
            [place + side * _WIDTH for place in places],
            [100 * share[name] for share in layers],
            width=_WIDTH,
            facecolor=colour if hatch is None else "white",
            edgecolor=colour,
            hatch=hatch,
            label=label,
        )
    axes.set_ylabel("share of squared norm, %")
    axes.legend(fontsize=10, frameon=False)


def _effects(axes: Axes, places: Sequence[int], ablation: Mapping[str, Any], kind: str) -> None:
    for side, name, colour, marker, label in (
        (-0.3, "added_first", BLUE, "o", "this layer's part alone"),
        (0.3, "added_last", ORANGE, "s", "this layer's part, after all others"),
    ):
        effects = [layer[name][kind] for layer in ablation["layers"]]
        axes.errorbar(
            [place + side * _WIDTH for place in places],
            [effect["value"] for effect in effects],
            yerr=(
                [max(0.0, effect["value"] - effect["low"]) for effect in effects],
                [max(0.0, effect["high"] - effect["value"]) for effect in effects],
            ),
            linestyle="none",
            marker=marker,
            markersize=5,
            capsize=2,
            color=colour,
            label=label,
        )
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    axes.set_ylabel("change, nats per token")
    axes.legend(fontsize=10, frameon=False)


def _name_layers(axes: Axes, places: Sequence[int], layers: Sequence[Mapping[str, Any]]) -> None:
    axes.set_xlabel("transformer layer, from the embeddings upwards")
    inside = [
        place for place, share in zip(places, layers, strict=True) if share["layer"] is not None
    ]
    shown = inside[:: math.ceil(len(inside) / _MOST_TICKS)] if inside else []
    names = [str(place) for place in shown]
    if layers[-1]["layer"] is None:
        shown, names = [*shown, places[-1]], [*names, "outside"]
    axes.set_xticks(shown, names)
