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
from defense.evaluation.safety import Answerer, EvaluationSuite, ModelScores, score_model
from defense.evaluation.task_accuracy import task_questions
from defense.job_defense import FOLLOWED_BY, JobDefense, parse_defense
from defense.moderation.embedded import EmbeddedClassifier
from defense.ops.tensors import apply_perturbation
from defense.protocols import (
    DefenderRows,
    EncodedRow,
    Message,
    Perturbation,
    Row,
    Tensors,
    Trained,
    Training,
)
from defense.registry import DefenseMethod
from defense.training.chat import encode_row
from defense.training.loop import TrainingPlan, fine_tune
from defense.training.lora import (
    LoraSettings,
    adapter_state,
    attach_adapter,
    detach_adapter,
    load_adapter_state,
)
from worker.base_models import BaseModels, LoadedModel
from worker.devices import choose_device
from worker.pipeline.adapted_model import aligned_adapter
from worker.row_sources import PromptRow, hold_out, read_rows

RESULTS = Path(__file__).parent / "results"
ANSWER_TOKENS = 32
TRAINING = {"epochs": 2, "batch_size": 4}
RESTORED = {"type": "refusal_restoration"}
PUBLISHED = {"type": "panacea", "guard_interval": 1, "final_perturbation": "last_batch"}

# A defense, and the strengths that its ending is tried at.
VARIANTS: Mapping[str, tuple[Mapping[str, object], Sequence[float]]] = {
    "restoration": (RESTORED, (0.7, 1.0, 1.5)),
    "both": ({**RESTORED, "harmful_ascent_weight": 0.3}, (1.0,)),
    "endpoint": ({"type": "panacea_endpoint"}, (1.0, 2.0, 4.0)),
    "panacea": (PUBLISHED, (0.0, 1.0, 2.0)),
    "default": ({"type": "panacea", FOLLOWED_BY: RESTORED}, (1.0,)),
}


@dataclass(frozen=True)
class Parts:
    """What every measurement shares."""

    entry: ModelEntry
    loaded: LoadedModel
    classifier: EmbeddedClassifier
    suite: EvaluationSuite
    user: Sequence[EncodedRow]
    defender: DefenderRows


def measure(home: Path, seeds: Sequence[int], variants: Sequence[str]) -> Metrics:
    """Measure the aligned model, then one training and all its perturbations per seed."""
    parts = prepare(Settings(home=home))
    found: dict[str, list[float]] = {}
    model = with_aligned_adapter(parts, seed=0)
    _record(found, "aligned", _score(model, parts))
    detach_adapter(model)
    for seed in seeds:
        _measure_training(parts, seed, variants, found)
    return {name: Metric(_unit(name), tuple(values)) for name, values in found.items()}


def _measure_training(
    parts: Parts, seed: int, variants: Sequence[str], found: dict[str, list[float]]
) -> None:
    plain = DefenseMethod(parse_defense({"type": "none"}), parts.defender, seed)
    model, initial, unguarded = _train(parts, seed, plain, found)
    _record(found, "tuned", _score(model, parts))
    for name in variants:
        options, strengths = VARIANTS[name]
        defense = parse_defense(options)
        method = DefenseMethod(defense, parts.defender, seed)
        weights = unguarded
        if _guards(defense):
            detach_adapter(model)
            model, initial, weights = _train(parts, seed, method, found)
        load_adapter_state(model, weights)
        trained = Trained(
            model, parts.loaded.pad_token_id, initial, parts.user, method.last_probe()
        )
        with stopwatch() as watch:
            perturbation = method.perturbation(trained)
        assert perturbation is not None, "every variant has an ending"  # noqa: S101
        found.setdefault(f"{name}.build_seconds", []).append(round(watch.seconds, 1))
        _note_projection(found, name, perturbation)
        for strength in strengths:
            guarded = apply_perturbation(weights, perturbation.tensors, strength)
            load_adapter_state(model, guarded)
            _record(found, f"{name} x{strength:g}", _score(model, parts))
    detach_adapter(model)


def _guards(defense: JobDefense) -> bool:
    return defense.fine_tuning.guard_work(TRAINING["batch_size"]) is not None


def _train(
    parts: Parts, seed: int, method: DefenseMethod, found: dict[str, list[float]]
) -> tuple[PeftModel, Tensors, Tensors]:
    """Train; give the model, and the adapter before and after."""
    model = with_aligned_adapter(parts, seed)
    initial, pad = adapter_state(model), parts.loaded.pad_token_id
    plan = TrainingPlan(learning_rate=parts.entry.learning_rate, seed=seed, **TRAINING)
    steps = plan.total_steps(len(parts.user))
    guard = method.guard(Training(model, pad, parts.user, plan.batch_size, steps))
    with stopwatch() as watch:
        fine_tune(model, pad, parts.user, plan, guard)
    kind = "training" if guard is None else "guarded_training"
    found.setdefault(f"{kind}.seconds", []).append(round(watch.seconds, 1))
    return model, initial, adapter_state(model)


def with_aligned_adapter(parts: Parts, seed: int) -> PeftModel:
    """The model with the adapter that jobs on it begin with; of seed what no alignment decides."""
    aligned, lora = aligned_adapter(parts.entry), parts.entry.lora
    settings = LoraSettings(lora.rank, lora.alpha, lora.target_modules)
    return attach_adapter(parts.loaded.model, settings, aligned, seed=seed).eval()


def answerer(model: PeftModel, parts: Parts) -> Answerer:
    """Let the model answer as a job's models do."""

    def answer(prompts: Sequence[Sequence[Message]]) -> list[str]:
        return generate_answers(
            model,
            parts.loaded.tokenizer,
            prompts,
            parts.entry.chat_template,
            GenerationSettings(max_new_tokens=ANSWER_TOKENS),
        )

    return answer


def _score(model: PeftModel, parts: Parts) -> ModelScores:
    return score_model(answerer(model, parts), parts.classifier, parts.suite)


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


def prepare(settings: Settings, model: str | None = None) -> Parts:
    """Load a registered model, by default the first one, and the rows and prompts to go with it."""
    registry = ModelRegistry.load(settings)
    entry = next(iter(registry)) if model is None else registry.get(model)
    loaded = BaseModels(settings.base_model_cache, choose_device(settings.device)).warm(entry)

    def encoded(rows: Sequence[PromptRow]) -> list[EncodedRow]:
        return [encode(Row.from_exchange(r.prompt, r.response), loaded, entry) for r in rows]

    alignment, _ = hold_out(read_rows(settings.alignment_rows, with_response=True))
    harmful, _ = hold_out(read_rows(settings.harmful_rows, with_response=True))
    benign = read_rows(settings.benign_rows, with_response=True)
    user = [encode(row, loaded, entry) for row in _chat_rows("demo/user_train.jsonl")]
    safety = read_rows(settings.safety_evaluation_prompts, with_response=False)
    look_alikes = read_rows(settings.over_refusal_prompts, with_response=False)
    suite = EvaluationSuite(
        harmful_prompts=[row.prompt for row in safety],
        harmful_categories=[row.category for row in safety],
        look_alike_prompts=[row.prompt for row in look_alikes],
        task_questions=task_questions(_chat_rows("demo/user_validation.jsonl")),
    )
    defender = DefenderRows(
        harmful=encoded(harmful),
        refusals=encoded([row for row in alignment if not row.is_benign]),
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


def encode(row: Row, loaded: LoadedModel, entry: ModelEntry) -> EncodedRow:
    """A conversation as tokens of a model."""
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
