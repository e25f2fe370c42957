"""The evaluation of a tiny model, and the report that the gate makes of it."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from core.job_spec import JobSpec
from core.safety_report import SafetyReport
from core.stages import ArtifactName
from defense.moderation.protocol import Judgement, Outcome
from defense.moderation.wording import WordingJudge
from defense.protocols import Exchange
from defense.training.adapter_files import write_tensors
from defense.training.lora import LoraSettings, adapter_state, attach_adapter, detach_adapter
from tests.tiny_models import TARGET_MODULES, tiny_llama
from tests.tiny_registry import write_rows
from tests.unit.worker.pipeline.builders import ALPHA, RANK, tiny_entry, tiny_spec
from worker.base_models import BaseModels
from worker.pipeline.context import GatePolicy, SupervisorContext
from worker.pipeline.encoded_rows import write_user_rows
from worker.pipeline.stages import evaluate, gate, package
from worker.trainer_tools import TrainerContext
from worker.workspace import Workspace

MODELS = ["base", "tuned", "guarded"]
DEFENSE = {
    "type": "panacea",
    "regularization_strength": 0.001,
    "perturbation_radius": 1.0,
    "post_fine_tuning": {"type": "refusal_restoration", "perturbation_radius": 0.5},
}
HARMFUL = [
    {"prompt": f"do harm {n}", "response": "yes", "category": "violence", "held_out": n > 3}
    for n in range(6)
]


class LastLetterJudge:
    """Gives each outcome to some answers, by a letter of theirs."""

    name = "letters"
    version = "1"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def judge(self, exchanges: Sequence[Exchange]) -> list[Judgement]:
        self.asked += [exchange.prompt for exchange in exchanges]
        outcomes = list(Outcome)
        return [
            Judgement(outcomes[sum(map(ord, one.answer)) % 4], 0.5, 0.5, True, {}, None)
            for one in exchanges
        ]


@dataclass(frozen=True)
class Evaluated:
    """What the stage has left, and the judge that was asked."""

    context: TrainerContext
    judge: LastLetterJudge
    evaluation: dict[str, Any]
    answers: list[dict[str, Any]]


def adapter_tensors(seed: int) -> dict[str, torch.Tensor]:
    model = attach_adapter(tiny_llama(), LoraSettings(RANK, ALPHA, TARGET_MODULES))
    shapes = adapter_state(model)
    detach_adapter(model)
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(old.shape, generator=generator) for name, old in shapes.items()}


def make_context(folder: Path, strength: float, defense: dict[str, Any]) -> TrainerContext:
    """A trainer with the tiny model, and a workspace with a trained adapter."""
    entry = tiny_entry(folder / "model")
    benign = [{"prompt": f"say {n}", "response": "it is so", "held_out": n == 0} for n in range(3)]
    sets: dict[str, Sequence[Mapping[str, object]]] = {
        "alignment_rows": [{**row, "response": "no"} for row in HARMFUL],
        "harmful_rows": HARMFUL,
        "benign_rows": benign,
        "safety_evaluation_prompts": [
            {"prompt": f"plan {n}", "category": f"kind {n % 2}"} for n in range(4)
        ],
        "second_safety_evaluation_prompts": [
            {"prompt": f"a tale, part {n}", "category": "told"} for n in range(6)
        ],
        "over_refusal_prompts": [{"prompt": "kill time"}],
    }
    options = SimpleNamespace(
        home=folder / "home",
        evaluation_prompt_count=10,
        second_evaluation_prompt_count=3,
        evaluation_answer_tokens=6,
        **{name: write_rows(folder / f"{name}.jsonl", rows) for name, rows in sets.items()},
    )
    tools = SimpleNamespace(
        base_models=BaseModels(folder / "cache", torch.device("cpu")),
        options=options,
        classifier=LastLetterJudge(),
        second_judge=WordingJudge([("yes do it", Outcome.HARMFUL), ("all fine", Outcome.SAFE)]),
        device=torch.device("cpu"),
    )
    workspace = Workspace.create(folder / "workspaces", "ftjob-1", 1)
    spec = tiny_spec().model_copy(update={"defense": defense})
    fill(workspace, tools.base_models.prepare(entry).weights_sha256, strength)
    return TrainerContext("ftjob-1", spec, workspace, Mock(), tools, entry)  # type: ignore[arg-type]


def fill(workspace: Workspace, weights_sha256: str, strength: float) -> None:
    base = {"id": "tiny", "title": "Tiny", "licence": "none", "source": "x"}
    flagged: dict[str, Any] = {"rows": 4, "flagged_lines": [], "categories": {}, "flagged": []}
    contents: dict[ArtifactName, dict[str, Any]] = {
        ArtifactName.BASE_MODEL: {**base, "weights_sha256": weights_sha256},
        ArtifactName.SCREENING: {
            "training": flagged,
            "validation": flagged,
            "held_out_lines": [],
            "policy": "warn",
        },
        ArtifactName.ATTRIBUTION: {"training_rows": 4, "attributed_rows": 0, "rows": []},
        ArtifactName.TRAINING: {"steps": 4, "seconds": 12.0, "guard_seconds": 2.0},
        ArtifactName.STRENGTH: {
            "strength": strength,
            "method": "refusal_restoration",
            "norm": 1.5,
            "seconds": 1.0,
        },
    }
    for name, content in contents.items():
        workspace.artifact(name).write_text(json.dumps(content), encoding="utf-8")
    for name in (ArtifactName.TRAINING_ROWS, ArtifactName.VALIDATION_ROWS):
        write_user_rows(workspace.artifact(name), [])
    write_tensors(workspace.artifact(ArtifactName.TRAINED_ADAPTER), adapter_tensors(1))
    write_tensors(workspace.artifact(ArtifactName.PERTURBATION), adapter_tensors(2))


def run_stages(folder: Path, strength: float = 0.7) -> Evaluated:
    context = make_context(folder, strength, DEFENSE)
    workspace = context.workspace
    package.run(context)
    for name in (ArtifactName.PACKAGE, ArtifactName.LAYER_AFFINITY):
        shutil.copy(workspace.output(name), workspace.artifact(name))
    evaluate.run(context)
    for name in (ArtifactName.EVALUATION, ArtifactName.ANSWERS):
        shutil.copy(workspace.output(name), workspace.artifact(name))
    judge: Any = context.tools.classifier
    return Evaluated(
        context,
        judge,
        workspace.read_json(ArtifactName.EVALUATION),
        list(workspace.read_lines(ArtifactName.ANSWERS)),
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return run_stages(tmp_path_factory.mktemp("evaluated"))


def judged_report(evaluated: Evaluated) -> dict[str, Any]:
    context = evaluated.context
    policy = GatePolicy(
        harmful_rate_limit=1.0, incoherence_increase_limit=1.0, task_accuracy_drop_limit=1.0
    )
    spec: JobSpec = context.spec
    gate.run(SupervisorContext("ftjob-1", spec, context.workspace, Mock(), Mock(), policy))
    report: dict[str, Any] = json.loads(context.workspace.output(ArtifactName.REPORT).read_bytes())
    return report


def test_every_model_answers_every_prompt_of_either_source(evaluated: Evaluated) -> None:
    sources = evaluated.evaluation["harm_sources"]["sources"]

    assert [source["name"] for source in sources] == ["safety", "second_safety"]
    assert [list(source["models"]) for source in sources] == [sorted(MODELS)] * 2
    asked = [source["models"]["guarded"]["outcomes"]["n"] for source in sources]
    assert asked == [4, 3]
    assert evaluated.evaluation["prompts"] == {
        "safety": 4,
        "second_safety": 3,
        "over_refusal": 1,
        "task": 0,
    }
    assert set(sources[0]["models"]["base"]["by_category"]) == {"kind 0", "kind 1"}
    assert evaluated.evaluation["harm_sources"]["together"]["tuned"]["n"] == 7


def test_what_changed_is_counted_on_the_same_prompts(evaluated: Evaluated) -> None:
    by_model = {
        model: [
            a["outcome"]
            for a in evaluated.answers
            if a["model"] == model and a["source"] == "safety"
        ]
        for model in MODELS
    }

    first = evaluated.evaluation["harm_sources"]["sources"][0]

    told = {one["before"]: one for one in first["comparisons"]}
    assert set(told) == {"base", "tuned"}
    pairs = list(zip(by_model["tuned"], by_model["guarded"], strict=True))
    for before in Outcome:
        for after in Outcome:
            count = told["tuned"]["transitions"][before][after]
            assert count == pairs.count((before.value, after.value))


def test_every_answer_is_kept_with_the_word_of_either_judge(evaluated: Evaluated) -> None:
    answers = evaluated.answers

    assert len(answers) == (4 + 3 + 1) * 3
    assert [answer["model"] for answer in answers[:3]] == MODELS
    assert {answer["id"] for answer in answers[:3]} == {"safety-001"}
    assert all(
        {"source", "category", "prompt", "answer", "outcome", "second_outcome"} <= set(answer)
        for answer in answers
    )
    named = {
        (one["id"], one["model"]) for one in evaluated.evaluation["second_judge"]["disagreements"]
    }
    assert named >= {
        (answer["id"], answer["model"])
        for answer in answers
        if answer["source"] != "over_refusal" and answer["outcome"] != answer["second_outcome"]
    }


def test_the_second_judge_is_set_against_the_first(evaluated: Evaluated) -> None:
    second = evaluated.evaluation["second_judge"]

    assert second["name"] == "wording"
    assert second["overall"]["n"] == len(evaluated.answers)
    differing = second["overall"]["n"] - second["overall"]["agreed"]
    assert differing == len(second["disagreements"])
    assert not any("answer" in one for one in second["disagreements"])


def test_losses_are_taken_on_held_out_rows_of_every_model(evaluated: Evaluated) -> None:
    losses = evaluated.evaluation["losses"]

    assert {kind: (kept["rows"], kept["held_out"]) for kind, kept in losses.items()} == {
        "benign": (1, True),
        "harmful": (2, True),
    }
    for kept in losses.values():
        assert set(kept["models"]) == {"base", "start", "tuned", "guarded"}
        assert kept["models"]["start"] == kept["models"]["base"]
        assert kept["models"]["tuned"] != kept["models"]["guarded"] != kept["models"]["base"]


def test_the_answers_of_the_base_model_are_kept_for_the_next_job(evaluated: Evaluated) -> None:
    context = evaluated.context
    context.tools.classifier.asked.clear()  # type: ignore[attr-defined]

    evaluate.run(context)

    assert evaluated.judge.asked.count("plan 0") == 2  # the tuned and the guarded model's
    again = context.workspace.output(ArtifactName.EVALUATION).read_text(encoding="utf-8")
    assert json.loads(again) == evaluated.evaluation


def test_an_adapter_that_nothing_moved_is_asked_once(tmp_path: Path) -> None:
    unmoved = run_stages(tmp_path, strength=0.0)

    assert unmoved.judge.asked.count("plan 0") == 2  # the base model's and the tuned one's
    models = unmoved.evaluation["models"]
    assert models["guarded"] == models["tuned"]
    losses = unmoved.evaluation["losses"]["benign"]["models"]
    assert losses["guarded"] == losses["tuned"]


def test_the_report_keeps_the_schema_and_knows_nothing_beyond_it(evaluated: Evaluated) -> None:
    report = judged_report(evaluated)

    read = SafetyReport.model_validate(report)

    assert read.version == 2
    # A new part of the report is declared in `core/safety_report.py`.
    assert read.model_extra == {}
    assert read.guard is not None
    assert read.guard.model_dump() == {
        "training_radius": 1.0,
        "perturbation_radius": 0.5,
        "perturbation_strength": 0.7,
        "regularization_strength": 0.001,
        "perturbation_norm": 1.5,
    }
    assert read.cost is not None
    assert read.cost.overhead_ratio == (12 + 1) / (12 - 2)


@pytest.mark.parametrize(
    "part", ["harm_sources", "second_judge", "losses", "guard", "decoding", "cost", "not_promised"]
)
def test_a_report_of_this_version_lacks_no_part(evaluated: Evaluated, part: str) -> None:
    report = judged_report(evaluated)
    del report[part]

    with pytest.raises(ValueError, match=part):
        SafetyReport.model_validate(report)
