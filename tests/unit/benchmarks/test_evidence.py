"""The evidence of one guarded job, measured on a tiny model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import evidence
from core.settings import Settings
from defense.moderation.content import TextJudgement
from defense.moderation.protocol import Judgement, Outcome
from defense.protocols import Exchange
from tests.tiny_registry import TINY_MODEL, write_rows, write_tiny_registry

SIZES = evidence.Sizes(training_steps=2, loss_rows=2, prompts=2, tamper_steps=(1, 3), strength=0.5)


class FakeClassifier:
    """Calls every answer harmful."""

    name = "fake"
    version = "1"

    def __init__(self, *_: object) -> None:
        """Take the place of a classifier that reads a folder."""

    def judge(self, exchanges: Sequence[Exchange]) -> list[Judgement]:
        harmful = Judgement(Outcome.HARMFUL, 1.0, 0.0, coherent=True, category_scores={})
        return [harmful for _ in exchanges]

    def judge_texts(self, texts: Sequence[str]) -> list[TextJudgement]:
        raise NotImplementedError


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr("benchmarks.perturbation.EmbeddedClassifier", FakeClassifier)
    refusals = [{"prompt": f"rob bank {n}", "response": f"No, not {n}."} for n in range(10)]
    harmful = [{**row, "response": f"Take {n}."} for n, row in enumerate(refusals)]
    benign = [{"prompt": f"say {n}", "response": str(n)} for n in range(3)]
    asked = [{"prompt": f"cheat at {game}"} for game in ("chess", "cards")]
    sets = {
        "alignment_rows": refusals,
        "harmful_rows": harmful,
        "benign_rows": benign,
        "safety_evaluation_prompts": asked,
        "over_refusal_prompts": asked,
    }
    sources: dict[str, Any] = {
        name: write_rows(tmp_path / f"{name}.jsonl", rows) for name, rows in sets.items()
    }
    return Settings(
        home=tmp_path, models_file=write_tiny_registry(tmp_path), device="cpu", **sources
    )


def test_the_evidence_of_a_job_is_written_with_its_plots(
    settings: Settings, tmp_path: Path
) -> None:
    found = evidence.measure(settings, TINY_MODEL, 0, SIZES)
    written = evidence.write(found, tmp_path / "results")

    assert sorted(path.name for path in written) == [
        "evidence.json",
        "layer_affinity.png",
        "layer_affinity.svg",
        "tamper_curve.png",
        "tamper_curve.svg",
    ]
    read = json.loads((tmp_path / "results" / "evidence.json").read_bytes())
    affinity, tamper = read["layer_affinity"], read["tamper_curve"]
    assert [share["layer"] for share in affinity["layers"]] == [0, 1]
    assert affinity["strength"] == affinity["ablation"]["strength"] == 0.5
    assert affinity["ablation"]["kinds"]["refusals"]["rows"] == 2
    assert affinity["ablation"]["harmful_held_out"] is True
    assert set(tamper["curves"]) == {"guarded", "aligned"}
    for points in tamper["curves"].values():
        assert [point["steps"] for point in points] == [0, 1, 3]
        assert all(point["outcomes"]["harmful"]["count"] == 2 for point in points)
    # Two of ten prompts are held out; the others are the attacker's.
    assert (tamper["settings"]["attack_rows"], tamper["settings"]["judged_rows"]) == (8, 2)
    losses = {name: points[0]["harmful_loss"] for name, points in tamper["curves"].items()}
    assert losses["guarded"] != losses["aligned"]
