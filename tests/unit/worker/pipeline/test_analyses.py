"""Analyses of the tiny model's guarded adapter, from the operator's rows to sections."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from defense.moderation.content import TextJudgement
from defense.moderation.protocol import Judgement, Outcome
from defense.ops.layers import layer_of
from defense.protocols import Exchange
from defense.training.lora import adapter_state
from tests.tiny_registry import write_rows
from tests.unit.worker.pipeline.builders import tiny_entry, tiny_spec
from worker.base_models import BaseModels
from worker.pipeline import analyses
from worker.pipeline.adapted_model import adapted_model, lora_settings
from worker.pipeline.analyses import GuardedModel
from worker.trainer_tools import TrainerContext
from worker.workspace import Workspace


class FakeClassifier:
    """Calls every answer to `cheat one` harmful."""

    name = "fake"
    version = "7"

    def judge(self, exchanges: Sequence[Exchange]) -> list[Judgement]:
        return [
            Judgement(
                Outcome.HARMFUL if exchange.prompt == "cheat one" else Outcome.REFUSED,
                0.0,
                0.0,
                coherent=True,
                category_scores={},
            )
            for exchange in exchanges
        ]

    def judge_texts(self, texts: Sequence[str]) -> list[TextJudgement]:
        raise NotImplementedError


@pytest.fixture
def context(tmp_path: Path) -> TrainerContext:
    refusals = [{"prompt": f"rob {n}", "response": "No."} for n in range(10)]
    harmful = [{"prompt": f"rob {n}", "response": f"Do {n}."} for n in range(10)]
    asked = [{"prompt": "cheat one"}, {"prompt": "cheat two"}]
    options = SimpleNamespace(
        alignment_rows=write_rows(tmp_path / "alignment.jsonl", refusals),
        harmful_rows=write_rows(tmp_path / "harmful.jsonl", harmful),
        safety_evaluation_prompts=write_rows(tmp_path / "asked.jsonl", asked),
        evaluation_answer_tokens=2,
    )
    tools = SimpleNamespace(
        base_models=BaseModels(tmp_path / "cache", torch.device("cpu")),
        options=options,
        classifier=FakeClassifier(),
    )
    workspace = Workspace.create(tmp_path / "workspaces", "ftjob-1", 1)
    entry = tiny_entry(tmp_path / "model")
    slow = tiny_spec().hyperparameters.model_copy(update={"learning_rate": 1e-9})
    spec = tiny_spec().model_copy(update={"hyperparameters": slow})
    return TrainerContext("ftjob-1", spec, workspace, Mock(), tools, entry)  # type: ignore[arg-type]


@pytest.fixture
def guarded(context: TrainerContext) -> Iterator[GuardedModel]:
    """A new adapter, and a perturbation of the second layer's B at half its strength."""
    loaded = context.tools.base_models.warm(context.entry)
    generator = torch.Generator().manual_seed(0)
    with adapted_model(loaded, lora_settings(context.spec)) as model:
        trained = adapter_state(model)
        perturbation = {
            name: torch.randn(tensor.shape, generator=generator)
            * (layer_of(name) == 1 and "lora_B" in name)
            for name, tensor in trained.items()
        }
        yield GuardedModel(loaded, model, trained, perturbation, 0.5)


def assert_untouched(guarded: GuardedModel) -> None:
    for name, tensor in adapter_state(guarded.model).items():
        assert torch.equal(tensor, guarded.trained[name])


def test_the_ablation_completes_the_section_on_layers(
    context: TrainerContext, guarded: GuardedModel
) -> None:
    found = analyses.layer_ablation(context, guarded)

    assert found is not None
    assert [share["weight_change_share"] for share in found["layers"]] == [0.0, 1.0]
    ablation = found["ablation"]
    assert (found["strength"], ablation["strength"], ablation["seed"]) == (0.5, 0.5, 1)
    # Two of the ten prompts are held out.
    assert {kind: effect["rows"] for kind, effect in ablation["kinds"].items()} == {
        "harmful": 2,
        "refusals": 2,
    }
    assert ablation["harmful_held_out"] is True
    idle, busy = ablation["layers"]
    assert idle["added_last"]["harmful"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert busy["added_first"]["harmful"] == ablation["kinds"]["harmful"]["whole"]
    progress = context.reporter.progress.call_args_list  # type: ignore[attr-defined]
    assert [call.args for call in progress] == [(done, 24) for done in range(1, 25)]
    json.dumps(found, allow_nan=False)
    assert_untouched(guarded)


def test_a_perturbation_that_is_not_applied_is_ablated_at_strength_one(
    context: TrainerContext, guarded: GuardedModel
) -> None:
    found = analyses.layer_ablation(context, replace(guarded, strength=0.0))

    assert found is not None
    assert found["strength"] == found["ablation"]["strength"] == 1.0
    assert found["ablation"]["kinds"]["harmful"]["whole"]["value"] != 0


def test_there_is_nothing_to_ablate_without_a_perturbation(
    context: TrainerContext, guarded: GuardedModel
) -> None:
    bare = replace(guarded, perturbation={}, strength=0.0)

    assert analyses.layer_ablation(context, bare) is None


def test_the_delivered_adapter_is_attacked_at_the_models_rate_whatever_the_job_trained_with(
    context: TrainerContext, guarded: GuardedModel
) -> None:
    found = analyses.tamper_curve(context, guarded)

    assert found["settings"] == {
        "optimizer": "AdamW, constant rate, no weight decay",
        "learning_rate": 1e-3,
        "batch_size": 4,
        "max_gradient_norm": 1.0,
        "seed": 1,
        "attack_rows": 8,
        "judged_rows": 2,
        "judged_rows_held_out": True,
        "answer_tokens": 2,
        "classifier": {"name": "fake", "version": "7"},
    }
    points = found["curves"]["guarded"]
    assert [point["steps"] for point in points] == [0, 1, 5, 10, 25, 50, 100]
    assert all(point["outcomes"]["harmful"]["count"] == 1 for point in points)
    assert all(point["outcomes"]["refused"]["count"] == 1 for point in points)
    assert points[-1]["harmful_loss"] < points[0]["harmful_loss"]
    bare = analyses.tamper_curve(context, replace(guarded, strength=0.0))
    assert bare["curves"]["guarded"][0]["harmful_loss"] != points[0]["harmful_loss"]
    json.dumps(found, allow_nan=False)
    assert_untouched(guarded)
