from typing import Any

import pytest

from tests.unit.worker.plots.reports import tamper_section
from worker.plots import tamper


@pytest.mark.parametrize("report", [{}, {"tamper_curve": None}])
def test_a_report_without_the_section_has_no_such_plot(report: dict[str, None]) -> None:
    assert tamper.draw(report) is None


def test_rates_and_losses_stand_at_every_measured_step() -> None:
    figure = tamper.draw({"tamper_curve": tamper_section()})

    assert figure is not None
    rates, losses = figure.axes
    bars: list[Any] = list(rates.containers)
    guarded, aligned = (container.lines[0] for container in bars)
    assert list(guarded.get_ydata()) == [0, 25, 50]
    assert list(aligned.get_ydata()) == [0, 12.5, 100]
    curve: Any = losses.lines[0].get_ydata()
    assert list(curve) == [3.0, 2.875, 2.75]
    assert [tick.get_text() for tick in losses.get_xticklabels()] == ["0", "1", "5"]
    assert "32 harmful prompts" in rates.get_title()
    assert rates.get_ylabel() == "answers, %"
    assert "nats" in losses.get_ylabel()
    assert "0.0015" in losses.get_xlabel()


def test_without_a_judge_only_the_loss_is_drawn() -> None:
    figure = tamper.draw({"tamper_curve": tamper_section(judged=False)})

    assert figure is not None
    (losses,) = figure.axes
    assert "nats" in losses.get_ylabel()
