"""How to start a Celery worker process, for the command line and for tests."""

import os
import secrets
import sys
from collections.abc import Mapping

from core.settings import Settings
from core.task_names import QUEUE


def worker_command(settings: Settings) -> list[str]:
    """Give the command line of one worker: one pool child, one job at a time.

    Gossip and mingle are off: workers know nothing of each other, only the database. Quiet leaves
    out Celery's banner, which is no log line; what the worker logs is not affected.
    """
    return [
        sys.executable, "-P", "-m", "celery",
        "--app", "worker.app:celery_app",
        "--quiet",
        "worker",
        "--hostname", f"tuneward-{secrets.token_hex(4)}@%h",
        "--queues", QUEUE,
        "--concurrency", "1",
        "--without-gossip",
        "--without-mingle",
        "--loglevel", settings.log_level,
    ]  # fmt: skip


def worker_environment(
    settings: Settings, environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Give the environment of one worker: ours, with the addresses that these settings hold."""
    chosen = dict(os.environ if environment is None else environment)
    chosen["TUNEWARD_HOME"] = str(settings.home)
    if settings.database_url is not None:
        chosen["TUNEWARD_DATABASE_URL"] = settings.database_url
    if settings.redis_url is not None:
        chosen["TUNEWARD_REDIS_URL"] = settings.redis_url
    # Celery's own remapping makes it sleep through its whole soft-shutdown time; see 0003.
    chosen.pop("REMAP_SIGTERM", None)
    return chosen
