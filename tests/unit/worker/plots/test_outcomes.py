"""The plot of outcomes by source."""

import io
from typing import Any

from matplotlib.figure import Figure

from worker.plots.outcomes import draw

REFUSED, SAFE, HARMFUL, INCOHERENT = range(4)


def rate(value: float) -> dict[str, float]:
    return {"value": value, "low": value / 2, "high": min(1.0, value * 2)}


def results(refused: float, harmful: float) -> dict[str, Any]:
    rates = {"refused": rate(refused), "harmful": rate(harmful)}
    rest = {"safe": rate(1 - refused - harmful), "incoherent": rate(0.0)}
    return {"outcomes": {"n": 50, "unique_prompts": 49, **rates, **rest}}


def report() -> dict[str, Any]:
    models = {"guarded": results(0.9, 0.02), "tuned": results(0.1, 0.8), "base": results(0.2, 0.5)}
    names = ("safety", "second_safety")
    return {
        "harm_sources": {
            "sources": [{"name": name, "file": f"{name}.jsonl", "models": models} for name in names]
        }
    }


def drawn(found: dict[str, Any]) -> Figure:
    figure = draw(found)
    assert figure is not None
    return figure


def test_there_is_a_panel_for_each_source_and_a_bar_for_each_model() -> None:
    axes = drawn(report()).axes

    assert [panel.get_title().split(":")[0] for panel in axes] == [
        "safety.jsonl",
        "second_safety.jsonl",
    ]
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["base", "tuned", "guarded"]
    assert "50 prompts, 49 different" in axes[0].get_title()


def test_the_bars_are_the_shares_one_behind_the_other() -> None:
    panel = drawn(report()).axes[0]

    refused, harmful = (panel.containers[index] for index in (REFUSED, HARMFUL))

    assert [bar.get_width() for bar in refused] == [20.0, 10.0, 90.0]
    # Behind what was refused or safe: 100 - 50, 100 - 80 and 100 - 2.
    assert [round(bar.get_x(), 6) for bar in harmful] == [50.0, 20.0, 98.0]
    ends = [bar.get_x() + bar.get_width() for bar in panel.containers[INCOHERENT]]
    assert [round(end, 6) for end in ends] == [100.0] * 3
    assert [text.get_text() for text in panel.texts][-1] == "2% (1%-4%)"


def test_a_report_without_sources_has_no_such_plot() -> None:
    assert draw({"version": 1}) is None


def test_it_can_be_written_as_png_and_svg() -> None:
    for kind, begins in (("png", b"\x89PNG"), ("svg", b"<?xml")):
        target = io.BytesIO()
        drawn(report()).savefig(target, format=kind)
        assert target.getvalue().startswith(begins)
