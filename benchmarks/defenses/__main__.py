"""`python -m benchmarks.defenses --data FOLDER`: measure what is missing, then write the report.

Stop it whenever you like: what is finished stays, and the next call goes on there. `report` as the
first word writes the report of what has been measured, without the public rows.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from benchmarks.defenses.attribution import measure_attributions
from benchmarks.defenses.caps import Caps
from benchmarks.defenses.harness import Harness
from benchmarks.defenses.laboratory import open_laboratory
from benchmarks.defenses.methods import all_methods
from benchmarks.defenses.plans import HEADLINE_RATIO, RATIOS, Wanted, make_plan
from benchmarks.defenses.public_rows import TASKS, PublicRows, PublicRowsError
from benchmarks.defenses.report import NothingMeasuredError, write_report
from benchmarks.defenses.store import ResultStore
from core.log import configure_logging
from core.settings import Settings

RESULTS = Path(__file__).parents[1] / "results" / "defenses"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks; 1 if something could not be measured, 2 if nothing could."""
    chosen = _parser().parse_args(arguments)
    store = ResultStore(chosen.results)
    failures: list[str] = []
    if chosen.what == "measure":
        if chosen.data is None:
            print(
                "--data names the folder of public rows; see benchmarks/NOTES.md", file=sys.stderr
            )
            return 2
        try:
            failures = _measure(chosen, store)
        except PublicRowsError as error:
            print(error, file=sys.stderr)
            return 2
    try:
        print(write_report(store))
    except NothingMeasuredError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if failures else 0


def _measure(chosen: argparse.Namespace, store: ResultStore) -> list[str]:
    public = PublicRows(chosen.data)
    settings = Settings(log_level="warning", log_format="console")
    configure_logging(settings, "benchmarks")
    caps = Caps(**{field.name: getattr(chosen, field.name) for field in fields(Caps)})
    wanted = Wanted(
        seeds=chosen.seeds,
        tasks=chosen.tasks,
        ratios=chosen.ratios,
        methods=chosen.methods,
        full=chosen.full,
        sweeps=chosen.sweeps,
    )
    laboratory, plan = open_laboratory(settings, caps, chosen.model), make_plan(wanted)
    headline = dict.fromkeys(cell for cell, _ in plan if cell.ratio == HEADLINE_RATIO)
    measure_attributions(laboratory, public, store, headline)
    harness = Harness(laboratory, public, store)
    harness.run(plan)
    return harness.failures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.defenses", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("measure", "report"), default="measure")
    parser.add_argument("--data", type=Path, help="folder of public rows")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--model", help="id in the model registry; the first one if left out")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument(
        "--ratios",
        type=float,
        nargs="+",
        choices=RATIOS,
        default=list(RATIOS),
        help=f"shares of harmful rows; {HEADLINE_RATIO:g} is the headline cell",
    )
    methods = list(all_methods())
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--full", action="store_true", help="every method at every ratio")
    parser.add_argument("--sweeps", action="store_true", help="rho, kappa, lambda and sigma, too")
    for field in fields(Caps):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=int, default=field.default, metavar="N"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
