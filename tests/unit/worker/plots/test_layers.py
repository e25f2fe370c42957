from typing import Any

import pytest

from tests.unit.worker.plots.reports import layer_section
from worker.plots import layers


@pytest.mark.parametrize("report", [{}, {"layer_affinity": None}])
def test_a_report_without_the_section_has_no_such_plot(report: dict[str, None]) -> None:
    assert layers.draw(report) is None


def test_the_bars_are_the_shares_of_every_layer() -> None:
    figure = layers.draw({"layer_affinity": layer_section(ablation=False)})

    assert figure is not None
    (axes,) = figure.axes
    bars: list[Any] = list(axes.patches)
    assert [bar.get_height() for bar in bars] == [40, 60, 25, 75]
    assert axes.get_ylabel() == "share of squared norm, %"
    assert "layer" in axes.get_xlabel()
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1"]


def test_an_ablation_adds_a_panel_for_each_kind_of_rows() -> None:
    figure = layers.draw({"layer_affinity": layer_section()})

    assert figure is not None
    _, refusals, harmful = figure.axes
    assert "refusals, 28 rows" in refusals.get_title()
    assert "-1.5" in refusals.get_title()
    assert "harmful answers, 27 rows" in harmful.get_title()
    assert "nats" in harmful.get_ylabel()
    points: list[Any] = list(harmful.containers)
    first, last = (container.lines[0] for container in points)
    assert list(first.get_ydata()) == [0.1, 0.1]
    assert list(last.get_ydata()) == [0.2, 0.2]


def test_weights_outside_the_layers_stand_apart() -> None:
    figure = layers.draw({"layer_affinity": layer_section(outside=True)})

    assert figure is not None
    ticks = figure.axes[-1].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["0", "1", "outside"]
    assert ticks[-1].get_position()[0] == 3


def test_of_many_layers_some_are_named() -> None:
    section = layer_section(ablation=False)
    section["layers"] = [{**section["layers"][0], "layer": layer} for layer in range(80)]

    figure = layers.draw({"layer_affinity": section})

    assert figure is not None
    names = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert names == [str(layer) for layer in range(0, 80, 5)]
