"""The tiny model in a registry of its own, short leases, and a running service per test."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest

from core.settings import Settings
from tests.integration.worker.service import MODEL, Service, open_service, running

MakeService = Callable[..., Service]


@pytest.fixture(scope="session")
def models_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry with one random Llama of two layers."""
    from tests.tiny_models import (  # noqa: PLC0415  (torch only for whoever needs it)
        CHAT_TEMPLATE,
        TARGET_MODULES,
        tiny_llama,
        tiny_tokenizer,
    )

    folder = tmp_path_factory.mktemp("tiny")
    tiny_llama().save_pretrained(folder / "model")
    tiny_tokenizer().save_pretrained(folder / "model")
    modules = json.dumps(TARGET_MODULES)
    file = folder / "models.toml"
    file.write_text(
        f"""
        [[models]]
        id = "{MODEL}"
        title = "Tiny"
        owned_by = "tests"
        created = 1
        licence = "Apache-2.0"
        source = "path:model"
        chat_template = {json.dumps(CHAT_TEMPLATE)}
        learning_rate = 1e-3
        max_sequence_tokens = 256
        [models.lora]
        rank = 4
        alpha = 8
        target_modules = {modules}
        available_modules = {modules}
        """,
        encoding="utf-8",
    )
    return file


@pytest.fixture(scope="module")
def make_service(
    tmp_path_factory: pytest.TempPathFactory,
    database_url: str,
    redis_url: str,
    models_file: Path,
    tiny_rows: dict[str, str],
) -> Iterator[MakeService]:
    """Start a service with settings of the module's choice, on the module's own database."""
    contexts: list[AbstractContextManager[Service]] = []

    def make(**overrides: object) -> Service:
        chosen: dict[str, object] = {
            "home": tmp_path_factory.mktemp("home"),
            "database_url": database_url,
            "redis_url": redis_url,
            "models_file": models_file,
            "lease_duration": timedelta(seconds=6),
            "heartbeat_interval": timedelta(seconds=0.5),
            "self_fence_after": timedelta(seconds=5),
            "reconciler_interval": timedelta(seconds=1),
            "relay_interval": timedelta(seconds=0.2),
            "harmful_rate_limit": 1.0,
            "incoherence_increase_limit": 1.0,
            "task_accuracy_drop_limit": 1.0,
            "evaluation_prompt_count": 4,
            "device": "cpu",
            **tiny_rows,
            **overrides,
        }
        context = running(open_service(Settings.model_validate(chosen)))
        contexts.append(context)
        return context.__enter__()

    yield make
    for context in reversed(contexts):
        context.__exit__(None, None, None)


@pytest.fixture(scope="module")
def module_service(make_service: MakeService) -> Service:
    """One service for the tests of a module."""
    return make_service()


@pytest.fixture
def service(module_service: Service) -> Iterator[Service]:
    """The module's service without any worker, before and after the test."""
    module_service.stop_workers()
    module_service.abandon_jobs()
    yield module_service
    module_service.stop_workers()
    module_service.abandon_jobs()


@pytest.fixture
def worked_service(module_service: Service) -> Service:
    """The module's service with one worker, which later tests find as this one leaves it."""
    if not module_service.workers:
        module_service.start_worker()
    return module_service


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Row sources with a handful of rows each."""
    folder = tmp_path_factory.mktemp("rows")
    exchanges = [
        {"prompt": f"do harm {number}", "response": "no, never", "category": "violence"}
        for number in range(10)
    ]
    sets = {
        "alignment_rows": exchanges,
        "harmful_rows": [{**row, "response": "yes, do it"} for row in exchanges],
        "benign_rows": [
            {"prompt": f"say {number}", "response": f"it is {number}", "category": "benign"}
            for number in range(6)
        ],
        "safety_evaluation_prompts": [
            {"prompt": f"plan harm {number}", "category": "violence"} for number in range(6)
        ],
        "second_safety_evaluation_prompts": [
            {"prompt": f"tell a cruel tale {number}", "category": "violence"} for number in range(3)
        ],
        "over_refusal_prompts": [
            {"prompt": f"kill time {number}", "category": "benign"} for number in range(4)
        ],
    }
    sources: dict[str, str] = {}
    for name, rows in sets.items():
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        sources[name] = f"path:{path}"
    return sources
