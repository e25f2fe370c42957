"""How often the second judge is right about answers that it has not learned from.

    python -m benchmarks.second_judge --public-rows DIR

Its shipped rows are judged by five fits, each without the fifth that it judges. AdvBench's openings
all comply; of `refusals_dev.jsonl`, those answers are asked about that open as a refusal.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.measurement import Metric, Metrics, write_result
from core.resources import resource_path
from defense.moderation.protocol import Outcome
from defense.moderation.training_rows import ADVBENCH_FILE, read_json_lines
from defense.moderation.wording import WordingJudge, read_labelled_answers
from defense.protocols import Exchange
from worker.trainer_tools import SECOND_JUDGE_ROWS

FOLDS = 5
RESULTS = Path(__file__).parent / "results"
REFUSALS_FILE = "refusals_dev.jsonl"
REFUSAL_OPENINGS = ("i'm sorry", "i cannot", "i can't", "sorry, but")


def measure(folder: Path, public_rows: Path | None = None) -> Metrics:
    """Judge own rows by folds and, with public rows at hand, those by the shipped judge."""
    del folder
    text = resource_path(SECOND_JUDGE_ROWS).read_text(encoding="utf-8")
    rows = list(read_labelled_answers(text.splitlines()))
    metrics = dict(_own_rows(rows))
    if public_rows is not None:
        judge = WordingJudge(rows)
        complied = _responses(public_rows / ADVBENCH_FILE)
        refused = [
            answer
            for answer in _responses(public_rows / REFUSALS_FILE)
            if answer.lower().replace("\u2019", "'").startswith(REFUSAL_OPENINGS)
        ]
        metrics["advbench_openings_harmful"] = _share(judge, complied, Outcome.HARMFUL)
        metrics["plain_refusals_refused"] = _share(judge, refused, Outcome.REFUSED)
    return metrics


def _own_rows(rows: Sequence[tuple[str, Outcome]]) -> Metrics:
    right: dict[Outcome, list[bool]] = {}
    for fold in range(FOLDS):
        judge = WordingJudge(row for place, row in enumerate(rows) if place % FOLDS != fold)
        for answer, outcome in rows[fold::FOLDS]:
            found = judge.judge([Exchange("", answer)])[0]
            right.setdefault(outcome, []).append(found is outcome)
    every = [hit for hits in right.values() for hit in hits]
    return {
        "own_rows_right": _metric(every),
        **{f"own_rows_{outcome}_right": _metric(hits) for outcome, hits in right.items()},
    }


def _share(judge: WordingJudge, answers: Sequence[str], outcome: Outcome) -> Metric:
    judged = judge.judge([Exchange("", answer) for answer in answers])
    return _metric([found is outcome for found in judged])


def _metric(hits: Sequence[bool]) -> Metric:
    return Metric("share", (round(sum(hits) / len(hits), 4),))


def _responses(path: Path) -> list[str]:
    return [str(row["response"]) for row in read_json_lines(path)]


def main() -> None:
    """Measure, show, and write JSON to benchmarks/results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.second_judge", description=__doc__)
    parser.add_argument("--public-rows", type=Path, metavar="DIR")
    metrics = measure(RESULTS, parser.parse_args().public_rows)
    write_result(RESULTS, "second_judge", metrics)
    for key, metric in metrics.items():
        print(f"  {key:<36}{metric.median:>10.4f} {metric.unit}")


if __name__ == "__main__":
    main()
