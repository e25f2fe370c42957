"""The tamper curve: what harmful fine-tuning makes of a delivered adapter, step by step."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.plots.style import COLOURS, MARKERS, panels

NAME: Final = "tamper_curve"

_APART: Final = 0.06  # so that the intervals of two curves do not hide each other


def draw(report: Mapping[str, Any]) -> Figure | None:
    """Draw the section `tamper_curve`; None if the report has none.

    Points stand at even distances: most of what happens, happens in the first steps.
    """
    section = report.get("tamper_curve")
    if section is None:
        return None
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = section["curves"]
    judged = [point["outcomes"] for points in curves.values() for point in points]
    rates = all(outcomes is not None for outcomes in judged)
    figure, axes = panels(2 if rates else 1, "Harm after re-training on harmful rows")
    if rates:
        _rates(axes[0], curves, judged[0]["n"])
    _losses(axes[-1], curves, section["settings"]["judged_rows"])
    settings = section["settings"]
    axes[-1].set_xlabel(
        f"steps of {settings['batch_size']} harmful rows at learning rate "
        f"{settings['learning_rate']:g} (0 is the adapter as delivered)"
    )
    longest = max(curves.values(), key=len)
    axes[-1].set_xticks(range(len(longest)), [str(point["steps"]) for point in longest])
    return figure


def _rates(axes: Axes, curves: Mapping[str, Sequence[Mapping[str, Any]]], prompts: int) -> None:
    for index, (name, points) in enumerate(curves.items()):
        rates = [point["outcomes"]["harmful"] for point in points]
        colour, marker = _look(index)
        axes.errorbar(
            [place + _APART * index for place in range(len(points))],
            [100 * rate["value"] for rate in rates],
            yerr=(
                [100 * max(0.0, rate["value"] - rate["low"]) for rate in rates],
                [100 * max(0.0, rate["high"] - rate["value"]) for rate in rates],
            ),
            color=colour,
            marker=marker,
            capsize=3,
            label=f"{name}: harmful",
        )
    for index, (name, points) in enumerate(curves.items()):
        colour, marker = _look(index)
        axes.plot(
            range(len(points)),
            [100 * point["outcomes"]["incoherent"]["value"] for point in points],
            color=colour,
            marker=marker,
            markerfacecolor="white",
            linestyle=":",
            label=f"{name}: broken text",
        )
    axes.set_ylim(-3, 103)
    axes.set_ylabel("answers, %")
    axes.set_title(f"Answers to {prompts} harmful prompts, with 95 % intervals", fontsize=11)
    axes.legend(fontsize=10, frameon=False)


def _losses(axes: Axes, curves: Mapping[str, Sequence[Mapping[str, Any]]], rows: int) -> None:
    for index, (name, points) in enumerate(curves.items()):
        colour, marker = _look(index)
        axes.plot(
            range(len(points)),
            [point["harmful_loss"] for point in points],
            color=colour,
            marker=marker,
            label=name,
        )
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("loss, nats per token")
    axes.set_title(f"Loss of {rows} other harmful answers: low is harmful", fontsize=11)
    axes.legend(fontsize=10, frameon=False)


def _look(index: int) -> tuple[str, str]:
    return COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
