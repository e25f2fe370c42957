import matplotlib as mpl

from tests.unit.worker.plots.reports import tamper_section, whole_report
from worker.plots.render import render


def test_every_plot_is_there_as_png_and_svg() -> None:
    files = render(whole_report())

    assert sorted(files) == [
        "layer_affinity.png",
        "layer_affinity.svg",
        "tamper_curve.png",
        "tamper_curve.svg",
    ]
    for name, content in files.items():
        if name.endswith("png"):
            assert content.startswith(b"\x89PNG")
            assert int.from_bytes(content[16:20]) == 800  # pixels across
        else:
            assert b">share of squared norm, %<" in content or b">answers, %<" in content


def test_plots_without_numbers_are_left_out() -> None:
    assert sorted(render({"tamper_curve": tamper_section()})) == [
        "tamper_curve.png",
        "tamper_curve.svg",
    ]
    assert render({}) == {}


def test_equal_reports_give_equal_bytes_and_no_setting_stays_changed() -> None:
    before = mpl.rcParams["svg.hashsalt"]

    first, second = render(whole_report()), render(whole_report())

    assert first == second
    assert not any(b"<dc:date>" in content for content in first.values())
    assert mpl.rcParams["svg.hashsalt"] == before
