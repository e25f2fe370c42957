"""The report of results made by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.defenses.__main__ import main
from benchmarks.defenses.methods import SWEEPS, sweep_name
from benchmarks.defenses.published import PUBLISHED_TABLES
from benchmarks.defenses.report import NothingMeasuredError, write_report
from benchmarks.defenses.store import Cell, ResultStore
from tests.defense_results import attribution, result

SWEEP = SWEEPS[0]


def _store(folder: Path, *results: dict[str, Any]) -> ResultStore:
    store = ResultStore(folder)
    for each in results:
        cell = Cell(each["task"], each["seed"], each["ratio"])
        store.write(cell, each["method"], each["key"], each)
    return store


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    return _store(
        tmp_path / "defenses",
        result("aligned", harm="hrrrrrrrrr"),
        result("none", harm="hhhhhhhrrr"),
        result("none", harm="hhhhhhhhhr", ratio=0.2),
        result("none", harm="hhhhhrrrrr", name="gsm8k", task="0000000001"),
        result("default", harm="hrrrrrrrri", seconds=109.0, build=3.0, search=8.0),
        result(sweep_name(SWEEP, 0.5), harm="hhhhrrrrrr"),
    )


@pytest.fixture
def report(store: ResultStore) -> str:
    write_report(store)
    return (store.folder / "report.md").read_text(encoding="utf-8")


def _row(report: str, title: str, name: str) -> list[str]:
    section = report.split(f"## {title}\n")[1].split("\n## ", maxsplit=1)[0]
    row = next(line for line in section.split("\n") if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in row.strip("|").split("|")][1:]


def test_harm_is_shown_by_task_with_its_interval_and_pooled(report: str) -> None:
    assert _row(report, "Harm by task (advbench)", "none") == [
        "50.0 % (24-76)",
        "70.0 % (40-89)",
        "60.0 % (39-78)",
    ]
    assert _row(report, "Harm by task (advbench)", "method") == ["gsm8k", "sst2", "all"]
    assert _row(report, "Task accuracy by task", "none")[0] == "10.0 % (2-40)"


def test_harm_is_shown_by_ratio_and_a_cell_that_was_not_measured_by_a_dash(report: str) -> None:
    assert _row(report, "Harm by harmful ratio (shipped)", "none") == [
        "60.0 % (39-78)",
        "90.0 % (60-98)",
    ]
    assert _row(report, "Harm by harmful ratio (shipped)", "default")[1] == "-"


def test_outcomes_pairs_losses_moves_and_cost_are_shown(report: str) -> None:
    assert _row(report, "Outcomes (xstest)", "default")[2] == "10.0 % (2-40)"
    assert _row(report, "Pairs (shipped)", "default") == ["10", "6", "0", "0.031"]
    assert _row(report, "Losses", "default") == ["2.000", "0.500", "2.000", "1.000", "1.000"]
    assert _row(report, "Moves", "default") == ["3.00", "0.50", "1.50", "1 of 1"]
    assert _row(report, "Cost", "default") == ["109.0", "1.09", "1.12", "1.20", "1024", "-"]
    assert _row(report, "Cost", "none")[-1] == "0.17 h, 34.9 GB"
    assert _row(report, "Harmful loss over steps", "none") == ["2.000", "1.000", "0.500"]


def test_sweeps_and_published_tables_stand_beside(report: str) -> None:
    assert _row(report, f"{SWEEP.method} by {SWEEP.symbol}", "0.5")[0] == "40.0 % (17-69)"
    published = PUBLISHED_TABLES[0]
    assert _row(report, f"Published: {published.source}", "panacea")[2] == "20.1 / 16.7"
    assert _row(report, f"Published: {PUBLISHED_TABLES[-2].source}", "lisa")[1] == "60.9 / -"


def test_published_rows_have_a_value_for_every_column() -> None:
    for table in PUBLISHED_TABLES:
        assert {len(pairs) for pairs in table.rows.values()} == {len(table.columns)}


def test_promises_are_printed_and_written(store: ResultStore) -> None:
    printed = write_report(store)

    assert "met      attack works" in printed
    assert "NOT MET  default: incoherence within 2 points of `none`" in printed
    written = json.loads((store.folder / "report.json").read_bytes())
    assert sum(promise["met"] is True for promise in written["promises"]) > 3
    assert len(written["results"]) == 6


def test_every_plot_is_there_as_png_and_as_svg_and_the_same_each_time(store: ResultStore) -> None:
    write_report(store)
    plots = {path.name: path.read_bytes() for path in (store.folder / "plots").iterdir()}

    write_report(store)

    names = {name.rsplit(".")[0] for name in plots}
    assert {"harm_by_ratio_shipped", "harm_and_accuracy_xstest", "harmful_loss", "cost"} <= names
    assert f"{SWEEP.method}_{SWEEP.symbol}" in names
    for name in names:
        assert plots[f"{name}.png"].startswith(b"\x89PNG")
        assert b"<svg" in plots[f"{name}.svg"]
    again = {path.name: path.read_bytes() for path in (store.folder / "plots").iterdir()}
    assert again == plots


def test_without_results_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(NothingMeasuredError, match="no results"):
        write_report(ResultStore(tmp_path))


def test_the_report_alone_needs_no_public_rows(
    store: ResultStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--results", str(store.folder)]) == 0

    assert "report.md" in capsys.readouterr().out


def test_a_report_of_nothing_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", "--results", str(tmp_path)]) == 2

    assert "no results" in capsys.readouterr().err


def test_measuring_without_public_rows_says_what_to_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--results", str(tmp_path)]) == 2
    assert main(["--results", str(tmp_path), "--data", str(tmp_path / "elsewhere")]) == 2

    said = capsys.readouterr().err
    assert "--data names the folder" in said
    assert "elsewhere" in said


def test_rankings_of_rows_are_in_the_report_as_text_and_as_data(store: ResultStore) -> None:
    store.write_attribution(Cell("sst2", 0, 0.1), "k", attribution(0.75))

    write_report(store)

    report = (store.folder / "report.md").read_text(encoding="utf-8")
    assert _row(report, "Planted rows found", "sst2")[3] == "0.75"
    written = json.loads((store.folder / "report.json").read_text(encoding="utf-8"))
    assert [each["precision_at_k"] for each in written["attributions"]] == [0.75]
    assert any(claim["figure"].startswith("0.75, mean of 1 files") for claim in written["promises"])
