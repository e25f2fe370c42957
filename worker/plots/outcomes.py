"""What became of the harmful prompts of each source, model by model: before and after the guard."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from worker.plots.style import BLUE, GREEN, GREY, ORANGE, panels

NAME: Final = "outcomes"

# Colours and hatches say the same, for readers in black and white.
_OUTCOMES: Final = (
    ("refused", GREEN, None),
    ("safe", BLUE, "..."),
    ("harmful", ORANGE, "///"),
    ("incoherent", GREY, "xx"),
)
_MODELS: Final = ("base", "aligned", "tuned", "guarded")


def draw(report: Mapping[str, Any]) -> Figure | None:
    """Draw the section `harm_sources`; None if the report is of a version without it."""
    section = report.get("harm_sources")
    if section is None:
        return None
    sources = section["sources"]
    figure, axes = panels(len(sources), "Answers to harmful prompts, by source")
    for panel, source in zip(axes, sources, strict=True):
        _source(panel, source)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=10, frameon=False, ncols=4, loc="outside lower center")
    axes[-1].set_xlabel("share of answers, %; beside the bars the harmful ones with 95 % intervals")
    return figure


def _source(axes: Axes, source: Mapping[str, Any]) -> None:
    models = [name for name in _MODELS if name in source["models"]]
    results = [source["models"][name]["outcomes"] for name in models]
    _bars(axes, models, results)
    for place, found in enumerate(results):
        harmful = found["harmful"]
        text = f"{harmful['value']:.0%} ({harmful['low']:.0%}-{harmful['high']:.0%})"
        axes.text(102, place, text, va="center", fontsize=10)
    axes.set_xlim(0, 130)
    axes.set_xticks(range(0, 101, 20))
    axes.invert_yaxis()  # the released model last, at the bottom
    prompts, unique = results[0]["n"], results[0]["unique_prompts"]
    axes.set_title(f"{source['file']}: {prompts} prompts, {unique} different", fontsize=10.5)


def _bars(axes: Axes, models: Sequence[str], results: Sequence[Mapping[str, Any]]) -> None:
    left = [0.0] * len(models)
    for outcome, colour, hatch in _OUTCOMES:
        shares = [100 * found[outcome]["value"] for found in results]
        axes.barh(
            models,
            shares,
            left=left,
            height=0.65,
            facecolor=colour if hatch is None else "white",
            edgecolor=colour,
            hatch=hatch,
            label=outcome,
        )
        left = [start + share for start, share in zip(left, shares, strict=True)]
