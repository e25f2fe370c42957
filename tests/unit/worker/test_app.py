"""The Celery settings that the delivery promise rests on, and what a pool child imports."""

import subprocess
import sys

import pytest

from core.settings import Settings
from core.task_names import QUEUE, WAKE_WORKER
from worker.celery_settings import make_celery_app
from worker.launch import worker_command, worker_environment

SETTINGS = Settings(redis_url="unix:///tmp/redis.sock?db=2", database_url="postgresql:///x")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task_acks_late", False),
        ("worker_disable_prefetch", True),
        ("worker_prefetch_multiplier", 1),
        ("worker_concurrency", 1),
        ("worker_pool", "prefork"),
        ("worker_pool_start_method", "spawn"),
        ("worker_max_tasks_per_child", None),
        ("worker_cancel_long_running_tasks_on_connection_loss", False),
        ("result_backend", None),
        ("task_ignore_result", True),
        ("accept_content", ["json"]),
        ("broker_connection_max_retries", None),
        ("task_time_limit", None),
        ("task_default_queue", QUEUE),
        ("broker_url", "redis+socket:///tmp/redis.sock?virtual_host=2"),
    ],
)
def test_the_settings_are_those_of_the_decision_record(name: str, value: object) -> None:
    assert make_celery_app(SETTINGS).conf[name] == value


def test_a_broker_that_hangs_is_given_up_after_seconds() -> None:
    options = make_celery_app(SETTINGS).conf.broker_transport_options

    assert options["socket_timeout"] == 5
    assert options["socket_connect_timeout"] == 5


def test_a_pool_child_imports_no_tensor_library() -> None:
    program = (
        "import sys; from worker.app import celery_app; celery_app.loader.import_default_modules();"
        "import worker.pipeline.stages.gate, worker.pipeline.stages.release;"
        "print([m for m in ('torch', 'transformers', 'peft', 'numpy') if m in sys.modules],"
        f" {WAKE_WORKER!r} in celery_app.tasks)"
    )

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )

    assert ran.stdout.strip() == "[] True"


def test_a_worker_is_started_without_gossip_and_with_one_child() -> None:
    command = worker_command(SETTINGS)

    assert "--without-gossip" in command
    assert "--without-mingle" in command
    assert command.index("--quiet") < command.index("worker")  # no banner among the log lines
    assert command[command.index("--concurrency") + 1] == "1"
    assert command[command.index("--queues") + 1] == QUEUE


def test_a_worker_gets_the_addresses_and_no_remapped_signal() -> None:
    environment = worker_environment(SETTINGS, {"REMAP_SIGTERM": "SIGQUIT", "PATH": "/bin"})

    assert environment["TUNEWARD_DATABASE_URL"] == "postgresql:///x"
    assert environment["TUNEWARD_REDIS_URL"] == "unix:///tmp/redis.sock?db=2"
    assert environment["PATH"] == "/bin"
    assert "REMAP_SIGTERM" not in environment
