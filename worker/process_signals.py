"""What each process of a worker does at its start and at its end.

Celery imports this module in the main process and in every spawned pool child.
"""

import os
import signal
import threading
from typing import Final

from billiard.process import active_children
from celery.signals import (
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutting_down,
)

from core.log import configure_logging
from core.settings import Settings
from worker import pool_child

SHUTDOWN_SECONDS: Final = 18.0

settings: Final = Settings()


@setup_logging.connect
def _own_the_logs(**_: object) -> None:
    """Keep Celery from installing its own log handlers."""
    configure_logging(settings, "worker")


@worker_init.connect
def _refuse_to_start_unconfigured(**_: object) -> None:
    """Say at once what would otherwise fail at the first job."""
    if settings.database_url is None or settings.redis_url is None:
        raise SystemExit(
            "Set TUNEWARD_DATABASE_URL and TUNEWARD_REDIS_URL, or use `tuneward serve`, which "
            "starts embedded servers."
        )


@worker_process_init.connect
def _open_session(**_: object) -> None:
    """Prepare a fresh pool child."""
    configure_logging(settings, "worker")
    pool_child.open_session(settings)


@worker_process_shutdown.connect
def _close_session(**_: object) -> None:
    """Let a pool child go without leaving a trainer."""
    pool_child.close_session()


@worker_shutting_down.connect
def _tell_pool_children(**_: object) -> None:
    """Have running jobs given back at once, and never take longer than the grace time.

    Celery would wait for a running task to end, which may take hours.
    """
    for child in active_children():
        if child.pid is not None:
            os.kill(child.pid, signal.SIGUSR2)
    timer = threading.Timer(SHUTDOWN_SECONDS, os._exit, args=(1,))
    timer.daemon = True
    timer.start()
