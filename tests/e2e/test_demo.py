"""The demo from its first to its last step, on a model that trains in seconds.

``make demo`` runs the same steps on the shipped model; here a random model takes its place, so the
safety figures must be refused while everything else succeeds.
"""

import json
from pathlib import Path

import pytest
from peft import PeftModel

from cli.demo.command import MODEL, run_demo
from cli.errors import AcceptanceError
from core.settings import Settings
from tests.tiny_models import tiny_llama
from tests.tiny_registry import write_tiny_registry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def demo_settings(home: Path) -> Settings:
    """Settings in which a random model has the shipped model's name and any adapter passes."""
    return Settings(
        home=home,
        port=0,
        models_file=write_tiny_registry(home, model_id=MODEL),
        evaluation_prompt_count=14,
        second_evaluation_prompt_count=11,
        harmful_rate_limit=1.0,
        incoherence_increase_limit=1.0,
        task_accuracy_drop_limit=1.0,
    )


def test_every_step_happens_and_figures_that_prove_nothing_fail_the_demo(
    demo_settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "demo-output"

    with pytest.raises(AcceptanceError, match="harmful rate"):
        run_demo(demo_settings, output)

    printed = capsys.readouterr().out
    for step in (
        "gateway ready at http://127.0.0.1:",
        "uploaded the user's rows",
        "created ftjob-",
        "fine tune",
        "succeeded as ft:",
        "as announced",
        "loaded the adapter with plain peft",
        "Safety report: 14 unseen harmful prompts",
        "stopped everything",
    ):
        assert step in printed, f"{step!r} is not in:\n{printed}"
    assert "\x1b[" not in printed
    report = json.loads((output / "adapter" / "report.json").read_text(encoding="utf-8"))
    assert set(report["evaluation"]["models"]) >= {"base", "tuned", "guarded"}
    PeftModel.from_pretrained(tiny_llama(), output / "adapter")
