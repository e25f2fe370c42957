"""The real stack with a model that trains in seconds: every process, server and byte is real."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from cli.keys import new_api_key
from cli.stack import RunningStack, running_stack
from core.settings import Settings
from tests.tiny_registry import write_tiny_registry

EVALUATION_PROMPTS = 4


@pytest.fixture(scope="session")
def tiny_settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose gate lets a model pass that has learned nothing."""
    home = tmp_path_factory.mktemp("home")
    return Settings(
        home=home,
        port=0,
        models_file=write_tiny_registry(home),
        evaluation_prompt_count=EVALUATION_PROMPTS,
        harmful_rate_limit=1.0,
        incoherence_increase_limit=1.0,
        task_accuracy_drop_limit=1.0,
    )


@pytest.fixture(scope="session")
def stack(tiny_settings: Settings) -> Iterator[RunningStack]:
    """Gateway, worker, relay and reconciler as processes, on embedded Postgres and Redis."""
    notices: list[str] = []
    with running_stack(tiny_settings, on_notice=notices.append) as running:
        yield running
    assert notices == [], "a service died or did not stop"


@pytest.fixture
def client(stack: RunningStack) -> Iterator[OpenAI]:
    """The stock client of a project of its own."""
    key = new_api_key(stack.database, f"project-{os.urandom(4).hex()}", "test")
    with OpenAI(base_url=f"{stack.address}/v1", api_key=key, max_retries=0) as opened:
        yield opened


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Twenty rows that anyone could upload."""
    path = tmp_path / "rows.jsonl"
    answer = {"role": "assistant", "content": "pong"}
    lines = (
        json.dumps({"messages": [{"role": "user", "content": f"ping {number}"}, answer]}) + "\n"
        for number in range(20)
    )
    path.write_text("".join(lines), encoding="utf-8")
    return path
