"""How the report's plots look: one size, and colours that everyone can tell apart."""

from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH: Final = 8.0  # inches; 800 pixels at the resolution that is written
PANEL_HEIGHT: Final = 3.2

# Of Okabe and Ito's palette, which holds for all kinds of colour vision; shapes say the same.
BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
GREEN: Final = "#009E73"
PINK: Final = "#CC79A7"
GREY: Final = "#666666"
COLOURS: Final = (BLUE, ORANGE, GREEN, PINK)
MARKERS: Final = ("o", "s", "^", "D")


def panels(count: int, title: str) -> tuple[Figure, list[Axes]]:
    """A figure of panels, one below the other, that share their horizontal axis."""
    figure = Figure(figsize=(WIDTH, 0.6 + PANEL_HEIGHT * count), layout="constrained")
    figure.suptitle(title, fontsize=12)
    axes = [figure.add_subplot(count, 1, 1)]
    axes += [figure.add_subplot(count, 1, row, sharex=axes[0]) for row in range(2, count + 1)]
    for panel in axes:
        panel.grid(visible=True, alpha=0.3)
        panel.tick_params(labelsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes
