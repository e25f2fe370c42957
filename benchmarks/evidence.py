"""Layer safety affinity and tamper curve of one guarded job of the demo's kind.

    python -m benchmarks.evidence --model smollm2-135m-instruct

Trains on the demo's rows with the default defense and applies its perturbation at one strength.
Then: in which layers the perturbation lies, what each layer's part does on held-out rows, and what
harmful fine-tuning makes of the adapter, beside what it makes of the aligned one. Writes the same
sections as a job's safety report, and their plots.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from peft import PeftModel

from benchmarks.machine import machine_facts
from benchmarks.measurement import stopwatch
from benchmarks.perturbation import (
    ANSWER_TOKENS,
    RESULTS,
    TRAINING,
    Parts,
    answerer,
    encode,
    prepare,
    with_aligned_adapter,
)
from core.settings import Settings
from defense.evaluation.layer_ablation import LayerTrial
from defense.evaluation.layer_affinity import layer_affinity
from defense.evaluation.tamper import STEPS, AnswerJudge, TamperPlan, TamperRows, tamper_curve
from defense.job_defense import DEFAULT_DEFENSE, parse_defense
from defense.ops.tensors import apply_perturbation, on_device_of
from defense.protocols import EncodedRow, Perturbation, Row, Tensors, Trained, Training
from defense.registry import DefenseMethod
from defense.training.loop import TrainingPlan, fine_tune
from defense.training.lora import adapter_state, detach_adapter
from defense.training.loss import AdapterLoss
from worker.pipeline.analysis_rows import AnalysisRows, choose_analysis_rows
from worker.plots.render import render
from worker.row_sources import PromptRow, read_rows, spread


@dataclass(frozen=True)
class Sizes:
    """How much is measured, and at which strength.

    Attributes:
        training_steps: At most so many steps of the demo's training.
        loss_rows: Losses are means over at most so many rows of each kind.
        prompts: Harmful prompts that are answered at each point of a tamper curve.
        tamper_steps: Its points.
        strength: Of the perturbation.
    """

    training_steps: int | None = None
    loss_rows: int = 28
    prompts: int = 32
    tamper_steps: Sequence[int] = STEPS
    strength: float = 1.0


@dataclass(frozen=True)
class GuardedAdapter:
    """One trained job. Weights are where the model is.

    Attributes:
        model: Holds the trained adapter.
        aligned: The adapter before training.
        trained: And after.
        perturbation: The defense's.
    """

    model: PeftModel
    aligned: Tensors
    trained: Tensors
    perturbation: Perturbation


def measure(settings: Settings, model: str | None, seed: int, sizes: Sizes) -> dict[str, Any]:
    """Train, take both measurements, and give them with what they were made with."""
    parts = prepare(settings, model)
    rows = choose_analysis_rows(
        read_rows(settings.alignment_rows, with_response=True),
        read_rows(settings.harmful_rows, with_response=True),
        read_rows(settings.safety_evaluation_prompts, with_response=False),
    )
    with stopwatch() as training:
        adapter = _train(parts, seed, sizes)
    print(f"trained in {training.seconds:.0f} s", flush=True)
    with stopwatch() as ablation:
        layers = _layers(parts, adapter, rows, seed, sizes)
    print(f"ablated in {ablation.seconds:.0f} s", flush=True)
    with stopwatch() as tampering:
        curves = _tamper(parts, adapter, rows, seed, sizes)
    print(f"attacked in {tampering.seconds:.0f} s", flush=True)
    detach_adapter(adapter.model)
    return {
        "benchmark": "evidence",
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "model": parts.entry.id,
        "defense": parse_defense(DEFAULT_DEFENSE).dump(),
        "seed": seed,
        "sizes": asdict(sizes),
        "seconds": {
            "training": round(training.seconds, 1),
            "layer_affinity": round(ablation.seconds, 1),
            "tamper_curve": round(tampering.seconds, 1),
        },
        "layer_affinity": layers,
        "tamper_curve": curves,
    }


def _train(parts: Parts, seed: int, sizes: Sizes) -> GuardedAdapter:
    model, pad = with_aligned_adapter(parts, seed), parts.loaded.pad_token_id
    aligned = adapter_state(model)
    plan = TrainingPlan(
        learning_rate=parts.entry.learning_rate,
        seed=seed,
        max_steps=sizes.training_steps,
        **TRAINING,
    )
    method = DefenseMethod(parse_defense(DEFAULT_DEFENSE), parts.defender, seed)
    steps = plan.total_steps(len(parts.user))
    guard = method.guard(Training(model, pad, parts.user, plan.batch_size, steps))
    fine_tune(model, pad, parts.user, plan, guard)
    trained = adapter_state(model)
    perturbation = method.perturbation(
        Trained(model, pad, aligned, parts.user, method.last_probe())
    )
    assert perturbation is not None, "the default defense has an ending"  # noqa: S101
    here = AdapterLoss(model, pad).weights()
    return GuardedAdapter(
        model, on_device_of(aligned, here), on_device_of(trained, here), perturbation
    )


def _layers(
    parts: Parts, adapter: GuardedAdapter, rows: AnalysisRows, seed: int, sizes: Sizes
) -> dict[str, Any]:
    move = on_device_of(adapter.perturbation.tensors, adapter.trained)
    scaling = parts.entry.lora.alpha / parts.entry.lora.rank
    affinity = layer_affinity(adapter.trained, move, sizes.strength, scaling)
    assert affinity is not None, "the default defense moves the adapter"  # noqa: S101
    trial = LayerTrial(
        source=AdapterLoss(adapter.model, parts.loaded.pad_token_id),
        trained=adapter.trained,
        perturbation=move,
        strength=affinity.strength,
        rows={
            "harmful": _encoded(parts, spread(rows.harmful, sizes.loss_rows)),
            "refusals": _encoded(parts, spread(rows.refusals, sizes.loss_rows)),
        },
        seed=seed,
    )
    ablation = trial.measure().as_json()
    return {**affinity.as_json(), "ablation": {**ablation, "harmful_held_out": rows.held_out}}


def _tamper(
    parts: Parts, adapter: GuardedAdapter, rows: AnalysisRows, seed: int, sizes: Sizes
) -> dict[str, Any]:
    plan = TamperPlan(
        parts.entry.learning_rate, TRAINING["batch_size"], seed, steps=sizes.tamper_steps
    )
    given = TamperRows(
        attack=_encoded(parts, rows.attack),
        judged=_encoded(parts, spread(rows.harmful, sizes.loss_rows)),
    )
    source = AdapterLoss(adapter.model, parts.loaded.pad_token_id)
    judge = AnswerJudge(
        adapter.model,
        answerer(adapter.model, parts),
        parts.classifier,
        rows.prompts[: sizes.prompts],
    )
    move = on_device_of(adapter.perturbation.tensors, adapter.trained)
    starts = {
        "guarded": apply_perturbation(adapter.trained, move, sizes.strength),
        "aligned": adapter.aligned,
    }
    curves = {
        name: tamper_curve(source, given, plan, start=start, judge=judge)
        for name, start in starts.items()
    }
    return {
        "settings": {
            **curves["guarded"].settings_as_json(),
            "judged_rows_held_out": rows.held_out,
            "answer_tokens": ANSWER_TOKENS,
            "classifier": {"name": parts.classifier.name, "version": parts.classifier.version},
        },
        "curves": {name: curve.as_json() for name, curve in curves.items()},
    }


def _encoded(parts: Parts, rows: Sequence[PromptRow]) -> list[EncodedRow]:
    return [
        encode(Row.from_exchange(row.prompt, row.response), parts.loaded, parts.entry)
        for row in rows
    ]


def write(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write the measurement as JSON, and its plots; give the files."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=2, allow_nan=False) + "\n"
    files = {"evidence.json": text.encode(), **render(found)}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def main() -> None:
    """Measure, print as it goes, and write JSON and plots."""
    default = Sizes()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__)
    parser.add_argument("--model", help="a registered model; by default the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--home", type=Path, default=Settings().home)
    parser.add_argument("--folder", type=Path, default=RESULTS / "evidence")
    parser.add_argument("--training-steps", type=int, default=default.training_steps)
    parser.add_argument("--loss-rows", type=int, default=default.loss_rows)
    parser.add_argument("--prompts", type=int, default=default.prompts)
    parser.add_argument("--tamper-steps", type=int, nargs="+", default=default.tamper_steps)
    parser.add_argument("--strength", type=float, default=default.strength)
    chosen = vars(parser.parse_args())
    home, folder = chosen.pop("home"), chosen.pop("folder")
    model, seed = chosen.pop("model"), chosen.pop("seed")
    for path in write(measure(Settings(home=home), model, seed, Sizes(**chosen)), folder):
        print(path)


if __name__ == "__main__":
    main()
