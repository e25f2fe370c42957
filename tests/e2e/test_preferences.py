"""A preference job with the stock ``openai`` client, against the real stack."""

import json
import tarfile
from pathlib import Path

import pytest
from openai import OpenAI
from safetensors.torch import load_file

from tests.e2e.test_openai_client import upload, wait
from tests.tiny_registry import TINY_MODEL

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_a_preference_job_runs_from_upload_to_download(client: OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "preferences.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(24):
            row = {
                "input": {
                    "messages": [{"role": "user", "content": f"ping {number}"}],
                    "tools": [],
                    "parallel_tool_calls": True,
                },
                "preferred_output": [{"role": "assistant", "content": "pong"}],
                "non_preferred_output": [{"role": "assistant", "content": "go away"}],
            }
            file.write(json.dumps(row) + "\n")

    job = client.fine_tuning.jobs.create(
        model=TINY_MODEL,
        training_file=upload(client, path),
        seed=7,
        method={
            "type": "dpo",
            "dpo": {
                "hyperparameters": {
                    "beta": 0.2,
                    "n_epochs": 2,
                    "batch_size": "auto",
                    "learning_rate_multiplier": 10,
                }
            },
        },
    )
    assert job.hyperparameters is None
    assert job.method is not None
    assert job.method.dpo is not None
    assert job.method.dpo.hyperparameters is not None
    assert job.method.dpo.hyperparameters.beta == 0.2
    assert job.method.supervised is None

    job = wait(client, job.id)

    assert job.status == "succeeded", job.error
    assert job.trained_tokens
    events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
    steps = [event.data for event in events if event.type == "metrics"]
    assert steps
    assert all(0 <= step["reward_accuracy"] <= 1 for step in steps)
    assert steps[0]["reward_margin"] > steps[-1]["reward_margin"]
    assert all(step["train_loss"] for step in steps)
    archive = tmp_path / "adapter.tar"
    client.files.content(job.result_files[1]).write_to_file(archive)
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "adapter", filter="data")
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert any(bool(tensor.any()) for name, tensor in weights.items() if ".lora_B." in name)
    report = json.loads((tmp_path / "adapter" / "report.json").read_bytes())
    assert report["decision"]["verdict"] == "released"
    assert report["defense"]["type"] == "alignment_merge"
