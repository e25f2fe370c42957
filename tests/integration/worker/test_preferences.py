"""Preference jobs on real servers, with a real worker, to their end."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from core.job_spec import DpoHyperparameters
from core.job_state import JobStatus
from tests.integration.worker.service import TARGET_MODULES, Service, result_files
from tests.integration.worker.test_jobs import PANACEA, parent_of
from worker.archive import extract_archive


def preferences(count: int = 24) -> bytes:
    lines = (
        {
            "input": {"messages": [{"role": "user", "content": f"what is {number}"}]},
            "preferred_output": [{"role": "assistant", "content": f"it is {number}"}],
            "non_preferred_output": [{"role": "assistant", "content": "who knows, never mind"}],
        }
        for number in range(count)
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def submit(service: Service, content: bytes, **more: Any) -> str:  # noqa: ANN401
    hyperparameters = DpoHyperparameters(
        n_epochs=4,
        batch_size=4,
        learning_rate_multiplier=1.0,
        learning_rate=1e-2,
        lora_rank=4,
        lora_alpha=8,
        target_modules=TARGET_MODULES,
        max_sequence_tokens=256,
        beta=0.2,
    )
    return service.submit(content=content, method="dpo", hyperparameters=hyperparameters, **more)


def report_of(service: Service, job_id: str) -> dict[str, Any]:
    _, _, report = result_files(service, job_id)
    path = service.settings.storage_path / report.storage_key
    read: dict[str, Any] = json.loads(path.read_bytes())
    return read


def steps_of(service: Service, job_id: str) -> list[dict[str, str]]:
    metrics, _, _ = result_files(service, job_id)
    path = service.settings.storage_path / metrics.storage_key
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_guarded_preference_job_learns_and_is_released(
    worked_service: Service, tmp_path: Path
) -> None:
    job_id = submit(worked_service, preferences(), defense=PANACEA)

    job = worked_service.wait_until_finished(job_id)

    assert job.status is JobStatus.SUCCEEDED, (job.error, worked_service.messages(job_id))
    steps = steps_of(worked_service, job_id)
    assert float(steps[0]["train_loss"]) == pytest.approx(math.log(2), abs=1e-3)
    assert float(steps[-1]["train_loss"]) < 0.5
    assert float(steps[-1]["valid_loss"]) < 0.6
    assert 0 <= float(steps[-1]["valid_mean_token_accuracy"]) <= 1
    assert float(steps[-1]["reward_accuracy"]) == 1.0
    assert float(steps[-1]["reward_margin"]) > 0.3
    assert all(step["harmful_loss"] and step["perturbed_harmful_loss"] for step in steps)
    assert [step["guarded_step"] for step in steps[:3]] == ["1", "1", "3"]
    events = [event for event in worked_service.events(job_id) if event.type == "metrics"]
    assert events[0].data is not None
    assert {"reward_accuracy", "reward_margin", "preferred_reward", "non_preferred_reward"} <= set(
        events[0].data
    )
    report = report_of(worked_service, job_id)
    assert report["method"] == "dpo"
    assert report["hyperparameters"]["beta"] == 0.2
    assert report["evaluation"]["prompts"]["task"] == 2
    models = report["evaluation"]["models"]
    assert models["tuned"]["task_accuracy"]["value"] == 1.0
    assert models["guarded"]["task_accuracy"]["n"] == 2
    assert "task_accuracy" not in models["base"]
    assert "task_accuracy_drop" in {check["name"] for check in report["decision"]["checks"]}
    _, archive, _ = result_files(worked_service, job_id)
    folder = tmp_path / "adapter"
    extract_archive(worked_service.settings.storage_path / archive.storage_key, folder)
    assert "preference accuracy" in (folder / "README.md").read_text(encoding="utf-8")
    weights = load_file(folder / "adapter_model.safetensors")
    assert any(bool(tensor.any()) for name, tensor in weights.items() if ".lora_B." in name)


def test_the_reference_of_a_continued_model_is_that_model(worked_service: Service) -> None:
    first = worked_service.submit(epochs=2, learning_rate=1e-2)
    worked_service.wait_until_finished(first)

    second = submit(worked_service, preferences(), parent=parent_of(worked_service, first))
    job = worked_service.wait_until_finished(second)

    assert job.status is JobStatus.SUCCEEDED, (job.error, worked_service.messages(second))
    before, *_, after = steps_of(worked_service, second)
    assert float(before["train_loss"]) == pytest.approx(math.log(2), abs=1e-3)
    assert float(before["reward_margin"]) == pytest.approx(0, abs=1e-3)
    assert float(after["reward_margin"]) > 0.1


def test_chats_given_to_a_preference_job_fail_it_with_the_line(worked_service: Service) -> None:
    job_id = submit(worked_service, b"")

    job = worked_service.wait_until_finished(job_id)

    assert job.status is JobStatus.FAILED
    assert job.error is not None
    assert job.error["code"] == "invalid_training_file"
    assert job.error["message"].startswith("Line 1: the row is a chat, and the method dpo")
