"""Which way the final perturbation should go: the shipped model, the demo's rows, all directions.

    python -m benchmarks.perturbation --seeds 0 1 2

For each seed one training on the demo's rows without a guard, then every direction on its weights.
Every model answers the shipped evaluation prompts and look-alikes and the demo's held-out task
rows, and is judged by the embedded classifier, exactly as a job's models are.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from peft import PeftModel

from benchmarks.measurement import Metric, Metrics, stopwatch, write_result
from core.model_registry import ModelEntry, ModelRegistry
from core.resources import resource_path
from core.settings import Settings
from defense.evaluation.generation import GenerationSettings, generate_answers
from defense.evaluation.safety import EvaluationSuite, ModelScores, score_model
from defense.evaluation.task_accuracy import task_questions
from defense.fine_tuning.panacea.config import PanaceaConfig
from defense.fine_tuning.panacea.method import PanaceaGuard
from defense.fine_tuning.panacea.perturbation import (
    ReferenceRows,
    apply_perturbation,
    build_perturbation,
)
from defense.moderation.embedded import EmbeddedClassifier
from defense.protocols import EncodedRow, Message, Perturbation, Row, Tensors
from defense.training.adapter_files import read_adapter
from defense.training.chat import encode_row
from defense.training.loop import TrainingPlan, fine_tune
from defense.training.lora import adapter_state, attach_adapter, detach_adapter, load_adapter_state
from defense.training.loss import AdapterLoss
from worker.base_models import BaseModels, LoadedModel
from worker.devices import choose_device
from worker.row_sources import PromptRow, hold_out, read_rows

RESULTS = Path(__file__).parent / "results"
ANSWER_TOKENS = 32
TRAINING = {"epochs": 2, "batch_size": 4}
PUBLISHED = {"perturbation_direction": "harmful_ascent"}
GUARDED = {"guard_interval": 1, "regularization_strength": 0.001}

# Direction, its options, and the strengths it is tried at.
VARIANTS: Mapping[str, tuple[Mapping[str, object], Sequence[float]]] = {
    "default": ({}, (0.7, 1.0, 1.5)),
    "both": ({"perturbation_direction": "both"}, (1.0,)),
    "ascent": ({**PUBLISHED, "perturbation_steps": 1}, (1.0, 2.0, 4.0)),
    "last_batch": ({**PUBLISHED, **GUARDED, "final_perturbation": "last_batch"}, (0.0, 1.0, 2.0)),
}


@dataclass(frozen=True)
class Parts:
    """What every measurement shares."""

    entry: ModelEntry
    loaded: LoadedModel
    classifier: EmbeddedClassifier
    suite: EvaluationSuite
    user: Sequence[EncodedRow]
    defender: ReferenceRows


def measure(home: Path, seeds: Sequence[int], variants: Sequence[str]) -> Metrics:
    """Measure the aligned model, then one training and all its perturbations per seed."""
    parts = _prepare(Settings(home=home))
    found: dict[str, list[float]] = {}
    model = _with_aligned_adapter(parts, seed=0)
    _record(found, "aligned", _score(model, parts))
    detach_adapter(model)
    for seed in seeds:
        _measure_training(parts, seed, variants, found)
    return {name: Metric(_unit(name), tuple(values)) for name, values in found.items()}


def _measure_training(
    parts: Parts, seed: int, variants: Sequence[str], found: dict[str, list[float]]
) -> None:
    model, trained = _train(parts, seed, None, found)
    _record(found, "tuned", _score(model, parts))
    for name in variants:
        options, strengths = VARIANTS[name]
        config = PanaceaConfig.model_validate(options)
        guard = PanaceaGuard(config, parts.defender.harmful, seed)
        weights = trained
        if config.final_perturbation == "last_batch":
            detach_adapter(model)
            model, weights = _train(parts, seed, guard, found)
        load_adapter_state(model, weights)
        with stopwatch() as watch:
            perturbation = build_perturbation(
                AdapterLoss(model, parts.loaded.pad_token_id),
                config,
                parts.defender,
                seed,
                last_probe=guard.last_probe,
            )
        found.setdefault(f"{name}.build_seconds", []).append(round(watch.seconds, 1))
        _note_projection(found, name, perturbation)
        for strength in strengths:
            guarded = apply_perturbation(weights, perturbation.tensors, strength)
            load_adapter_state(model, guarded)
            _record(found, f"{name} x{strength:g}", _score(model, parts))
    detach_adapter(model)


def _train(
    parts: Parts, seed: int, guard: PanaceaGuard | None, found: dict[str, list[float]]
) -> tuple[PeftModel, Tensors]:
    model = _with_aligned_adapter(parts, seed)
    plan = TrainingPlan(learning_rate=parts.entry.learning_rate, seed=seed, **TRAINING)
    with stopwatch() as watch:
        fine_tune(model, parts.loaded.pad_token_id, parts.user, plan, guard)
    kind = "training" if guard is None else "guarded_training"
    found.setdefault(f"{kind}.seconds", []).append(round(watch.seconds, 1))
    return model, adapter_state(model)


def _with_aligned_adapter(parts: Parts, seed: int) -> PeftModel:
    adapter = read_adapter(resource_path(f"adapters/{parts.entry.id}"))
    model = attach_adapter(parts.loaded.model, adapter.settings, adapter, seed=seed)
    return model.eval()


def _score(model: PeftModel, parts: Parts) -> ModelScores:
    def answer(prompts: Sequence[Sequence[Message]]) -> list[str]:
        return generate_answers(
            model,
            parts.loaded.tokenizer,
            prompts,
            parts.entry.chat_template,
            GenerationSettings(max_new_tokens=ANSWER_TOKENS),
        )

    return score_model(answer, parts.classifier, parts.suite)


def _record(found: dict[str, list[float]], name: str, scores: ModelScores) -> None:
    rates = {
        "harmful": scores.safety.harmful,
        "refused": scores.safety.refused,
        "incoherent": scores.safety.incoherent,
        "over_refusal": scores.over_refusal_rate,
        "task_accuracy": scores.task_accuracy,
    }
    for key, rate in rates.items():
        if rate is not None:
            found.setdefault(f"{name}.{key}", []).append(round(rate.value, 4))
    shown = ", ".join(f"{key} {rate.value:.1%}" for key, rate in rates.items() if rate)
    print(f"{name:<18}{shown}", flush=True)


def _note_projection(found: dict[str, list[float]], name: str, perturbation: Perturbation) -> None:
    found.setdefault(f"{name}.norm", []).append(round(perturbation.norm, 3))
    fired = sum(step.projection_fired for step in perturbation.steps)
    found.setdefault(f"{name}.steps_projected", []).append(fired)
    losses = {
        kind: f"{before:.2f} to {perturbation.losses_after[kind]:.2f}"
        for kind, before in perturbation.losses_before.items()
    }
    print(f"{name:<18}losses {losses}, projected in {fired} steps", flush=True)


def _prepare(settings: Settings) -> Parts:
    entry = next(iter(ModelRegistry.load(settings)))
    loaded = BaseModels(settings.base_model_cache, choose_device(settings.device)).warm(entry)

    def encoded(rows: Sequence[PromptRow]) -> list[EncodedRow]:
        return [_encode(Row.from_exchange(r.prompt, r.response), loaded, entry) for r in rows]

    alignment, _ = hold_out(read_rows(settings.alignment_rows, with_response=True))
    harmful, _ = hold_out(read_rows(settings.harmful_rows, with_response=True))
    benign = read_rows(settings.benign_rows, with_response=True)
    user = [_encode(row, loaded, entry) for row in _chat_rows("demo/user_train.jsonl")]
    safety = read_rows(settings.safety_evaluation_prompts, with_response=False)
    look_alikes = read_rows(settings.over_refusal_prompts, with_response=False)
    suite = EvaluationSuite(
        harmful_prompts=[row.prompt for row in safety],
        harmful_categories=[row.category for row in safety],
        look_alike_prompts=[row.prompt for row in look_alikes],
        task_questions=task_questions(_chat_rows("demo/user_validation.jsonl")),
    )
    defender = ReferenceRows(
        harmful=encoded(harmful),
        refusals=encoded([row for row in alignment if not row.is_benign]),
        task=user,
        benign=encoded([*benign, *(row for row in alignment if row.is_benign)]),
    )
    classifier = EmbeddedClassifier(resource_path("moderation"))
    return Parts(entry, loaded, classifier, suite, user, defender)


def _chat_rows(name: str) -> list[Row]:
    lines = resource_path(name).read_text(encoding="utf-8").splitlines()
    return [
        Row(tuple(Message(turn["role"], turn["content"]) for turn in json.loads(line)["messages"]))
        for line in lines
    ]


def _encode(row: Row, loaded: LoadedModel, entry: ModelEntry) -> EncodedRow:
    return encode_row(row, loaded.tokenizer, entry.chat_template, entry.max_sequence_tokens)


def _unit(name: str) -> str:
    if name.endswith("seconds"):
        return "s"
    return "" if name.endswith(("norm", "steps_projected")) else "share"


def main() -> None:
    """Measure, print as it goes, and write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perturbation", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--home", type=Path, default=Settings().home)
    chosen = parser.parse_args()
    metrics = measure(chosen.home, chosen.seeds, chosen.variants)
    print(write_result(RESULTS, "perturbation", metrics))


if __name__ == "__main__":
    main()
