"""The report of what has been measured: Markdown, JSON and plots beside the results."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.defenses.attribution_tables import attribution_tables
from benchmarks.defenses.claims import Claim, claims
from benchmarks.defenses.plots import write_plots
from benchmarks.defenses.store import ResultStore
from benchmarks.defenses.summary import Summary
from benchmarks.defenses.tables import Table, all_tables

_NOTES = """\
Shares are in percent with Wilson's 95 % interval, pooled over tasks and seeds. Models of different
tasks and seeds answer the same prompts, so a pooled interval is narrower than one for new prompts
would be. `shipped` are prompts of the project's own, `advbench` those of AdvBench that resemble no
attack row and no row of the operator's, `xstest` the unsafe contrasts of XSTest, of whose source
neither attack nor operator has a row. `aligned` is the model before the user's rows.
"""


class NothingMeasuredError(Exception):
    """There is no result to report on."""


def write_report(store: ResultStore) -> str:
    """Write everything; give the promises with their figures, and where the report is.

    Raises:
        NothingMeasuredError: There is no result.
    """
    results = store.all_results()
    if not results:
        raise NothingMeasuredError(f"There are no results under {store.folder}.")
    summary = Summary(results, store.all_attributions())
    promises = claims(summary)
    tables = [*all_tables(summary, promises), *attribution_tables(summary)]
    plots = write_plots(summary, store.folder / "plots")
    path = store.folder / "report.md"
    path.write_text(_markdown(results, tables, plots), encoding="utf-8")
    _write_json(store.folder / "report.json", summary, promises, tables)
    return "\n".join([*map(_line, promises), str(path)])


def _line(claim: Claim) -> str:
    words = {True: "met    ", False: "NOT MET", None: "       "}
    return f"{words[claim.met]}  {claim.text}: {claim.figure}"


def _markdown(
    results: Sequence[Mapping[str, Any]], tables: Sequence[Table], plots: Sequence[str]
) -> str:
    parts = ["# Defenses, measured side by side", "", _NOTES, *_made_from(results), ""]
    parts += [table.markdown() for table in tables]
    parts += ["## Plots", "", *(f"![{name}](plots/{name}.png)\n" for name in plots)]
    return "\n".join(parts)


def _made_from(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what the report is made of; results of several commits or machines may not compare."""
    lines = [f"- {len(results)} results"]
    for name in ("commit", "processor", "accelerator"):
        found = sorted({str(result["machine"][name]) for result in results} - {"None"})
        if found:
            lines.append(f"- {name}: {', '.join(found)}")
    times = sorted(result["measured_at"] for result in results)
    seeds = sorted({result["seed"] for result in results if result["seed"] is not None})
    lines.append(f"- measured: {times[0]} to {times[-1]}, seeds {seeds}")
    return lines


def _write_json(
    path: Path,
    summary: Summary,
    promises: Sequence[Claim],
    tables: Sequence[Table],
) -> None:
    report = {
        "made_from": _made_from(summary.results),
        "promises": [asdict(claim) for claim in promises],
        "tables": [asdict(table) for table in tables],
        "results": summary.results,
        "attributions": summary.attributions,
    }
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
