"""The plots of a safety report as files; equal reports give equal bytes."""

import io
from collections.abc import Callable, Mapping
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from worker.plots import layers, outcomes, tamper

Draw = Callable[[Mapping[str, Any]], Figure | None]

# By the name of the files, without their ending.
PLOTS: Final[Mapping[str, Draw]] = {each.NAME: each.draw for each in (outcomes, layers, tamper)}
DOTS_PER_INCH: Final = 100


def render(report: Mapping[str, Any]) -> dict[str, bytes]:
    """Draw all that a report has numbers for.

    Returns:
        The bytes of a PNG and of an SVG for each plot, by file name.
    """
    files: dict[str, bytes] = {}
    # Ids within an SVG are otherwise drawn at random; its text stays text.
    with mpl.rc_context({"svg.hashsalt": "tuneward", "svg.fonttype": "none"}):
        for name, draw in PLOTS.items():
            figure = draw(report)
            if figure is not None:
                files[f"{name}.png"] = _bytes(figure, "png", {"Software": None})
                files[f"{name}.svg"] = _bytes(figure, "svg", {"Date": None})
    return files


def _bytes(figure: Figure, kind: str, metadata: Mapping[str, None]) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format=kind, dpi=DOTS_PER_INCH, metadata=dict(metadata))
    return target.getvalue()
