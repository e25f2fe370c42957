"""Which score finds planted rows: gradients at the weights before training, nothing is trained.

    python -m benchmarks.attribution --data FOLDER --tasks sst2 agnews gsm8k --ratio 0.1 --seeds 0

Users' files are those of `python -m benchmarks.defenses`. Each row's gradient is kept as a sketch
(entries with random signs summed into buckets), which keeps cosines to within about 0.006, so that
one pass over the rows serves every score. `shipped` is what jobs do, without a sketch.

H, B and R are mean unit gradients of the operator's harmful rows, benign rows and refusals, U of
the user's own. `H - B` is the cosine with that difference, `H without B` that with what is left of
H after B is projected out. `loss`, `norm` and `moderation` look at no direction.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

import torch

from benchmarks.defenses.attribution import encode_all, rank_rows
from benchmarks.defenses.caps import Caps
from benchmarks.defenses.laboratory import Laboratory, open_laboratory
from benchmarks.defenses.public_rows import TASKS, PublicRows
from benchmarks.defenses.questions import UserFile, user_file
from benchmarks.gradient_scores import Sketcher, scores
from benchmarks.machine import machine_facts
from benchmarks.ranking import area_under_curve, precision_at_k
from core.log import configure_logging
from core.settings import Settings
from defense.evaluation.row_attribution import (
    beginnings,
    spread,
)
from defense.protocols import EncodedRow
from defense.training.loss import AdapterLoss

RESULT = Path(__file__).parent / "results" / "attribution.json"
WHOLE = 10**9
SHIPPED = "shipped"


@dataclass(frozen=True)
class Found:
    """How one score did on one user's file.

    Attributes:
        task: Of the file.
        seed: Of the file.
        answer_tokens: So many of each answer were looked at; None of all.
        score: Its name.
        precision: At as many rows as were planted.
        auc: Area under the curve.
    """

    task: str
    seed: int
    answer_tokens: int | None
    score: str
    precision: float
    auc: float


def measure(
    laboratory: Laboratory,
    file: UserFile,
    rows: Sequence[EncodedRow],
    seed: int,
    answer_tokens: int,
    references: int,
) -> dict[str, tuple[float, float]]:
    """Precision at k and area under the curve of every score."""
    defender = laboratory.defender
    sets = [
        rows,
        *(spread(vars(defender)[k], references) for k in ("harmful", "benign", "refusals")),
    ]
    wanted = laboratory.hyperparameters(len(rows))
    with laboratory.adapted(wanted, seed) as model:
        loss = AdapterLoss(model, laboratory.loaded.pad_token_id)
        sketcher = Sketcher(loss)
        found = scores(*(sketcher.gradients(beginnings(each, answer_tokens)) for each in sets))
    judged = laboratory.classifier.judge(file.rows)
    found["moderation"] = torch.tensor([judgement.harmful_score for judgement in judged])
    return {
        name: (
            precision_at_k(values.tolist(), file.planted),
            area_under_curve(values.tolist(), file.planted),
        )
        for name, values in found.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print a table as it grows, and write JSON."""
    chosen = _parser().parse_args(arguments)
    settings = Settings(log_level="warning", log_format="console")
    configure_logging(settings, "benchmarks")
    laboratory = open_laboratory(settings, Caps(user_rows=chosen.user_rows), chosen.model)
    public = PublicRows(chosen.data)
    found: list[Found] = []
    shipped: list[dict[str, object]] = []
    for seed in chosen.seeds:
        for task in chosen.tasks:
            file = user_file(public, TASKS[task], seed, chosen.ratio, laboratory.caps)
            rows = encode_all(laboratory, file)
            jobs = rank_rows(laboratory, file, rows, seed)
            values = jobs["precision_at_k"], jobs["area_under_curve"]
            found.append(Found(task, seed, None, SHIPPED, *values))
            shipped.append({"task": task, "seed": seed, **jobs})
            print(f"{task}, seed {seed}, {SHIPPED}: {jobs}", flush=True)
            for tokens in chosen.answer_tokens:
                measured = measure(laboratory, file, rows, seed, tokens or WHOLE, chosen.references)
                found += [
                    Found(task, seed, tokens or None, name, *values)
                    for name, values in measured.items()
                ]
                print(_line(task, seed, tokens, measured), flush=True)
    print(_table(found, chosen.tasks))
    _write(chosen.result, vars(chosen), found, shipped)
    return 0


def _line(task: str, seed: int, tokens: int, measured: Mapping[str, tuple[float, float]]) -> str:
    cells = ", ".join(f"{name} {at_k:.2f}" for name, (at_k, _) in measured.items())
    return f"{task}, seed {seed}, {tokens or 'all'} answer tokens: {cells}"


def _table(found: Sequence[Found], tasks: Sequence[str]) -> str:
    """Precision at k / area under the curve, means over seeds; the best of all tasks first."""
    groups: dict[tuple[str, int | None], list[Found]] = {}
    for each in found:
        groups.setdefault((each.score, each.answer_tokens), []).append(each)
    lines = [
        "",
        f"| score | answer tokens | {' | '.join(tasks)} | all |",
        "|---" * (len(tasks) + 3) + "|",
    ]
    for (name, tokens), results in sorted(
        groups.items(), key=lambda item: -fmean(each.precision + each.auc for each in item[1])
    ):
        per_task = [[each for each in results if each.task == task] for task in tasks]
        cells = " | ".join(_cell(part) for part in [*per_task, results])
        lines.append(
            f"| {name} | {'as shipped' if name == SHIPPED else tokens or 'all'} | {cells} |"
        )
    return "\n".join(lines)


def _cell(results: Sequence[Found]) -> str:
    return f"{fmean(r.precision for r in results):.2f} / {fmean(r.auc for r in results):.3f}"


def _write(
    path: Path,
    options: Mapping[str, object],
    found: Sequence[Found],
    shipped: Sequence[Mapping[str, object]],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "options": {
            name: value for name, value in options.items() if name not in ("data", "result")
        },
        "shipped": list(shipped),
        "results": [asdict(each) for each in found],
    }
    path.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    print(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attribution",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of public rows")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--ratio", type=float, default=0.1, help="share of planted rows")
    parser.add_argument("--user-rows", type=int, default=Caps.user_rows, metavar="N")
    parser.add_argument(
        "--references", type=int, default=64, metavar="N", help="operator's rows of each kind"
    )
    parser.add_argument(
        "--answer-tokens",
        type=int,
        nargs="+",
        default=[8, 32],
        metavar="N",
        help="look at so many of each answer, one after another; 0 takes all",
    )
    parser.add_argument("--model", help="id in the model registry; the first one if left out")
    parser.add_argument("--result", type=Path, default=RESULT)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
