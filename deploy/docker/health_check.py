#!/usr/bin/env python
"""Health check of containers without a port: `health_check.py <command>`, such as `relay`.

Exit 0 if the loop of that process still turns. The loops touch a file after every round that
succeeded; the worker's main process answers a ping. So an outage of Postgres or Redis that
stops their work fails the check too.
"""

import socket
import sys
import time
from datetime import timedelta

from core.settings import Settings
from worker.celery_settings import make_celery_app
from worker.periodic import MAX_BACKOFF, heartbeat_file

ANSWER_SECONDS = 5.0
MISSED_ROUNDS = 3


def check_loop(settings: Settings, name: str, interval: timedelta) -> None:
    """Refuse a loop whose last good round is too long ago.

    Raises:
        SystemExit: It is, or there was none yet.
    """
    path = heartbeat_file(settings, name)
    if not path.exists():
        raise SystemExit(f"{name} has not finished a round yet")
    age = timedelta(seconds=time.time() - path.stat().st_mtime)
    if age > MISSED_ROUNDS * interval + MAX_BACKOFF:
        raise SystemExit(f"the last good round of {name} was {age.total_seconds():.0f} s ago")


def check_worker(settings: Settings) -> None:
    """Ping the worker of this machine through the broker; it answers during a job too.

    Raises:
        SystemExit: No answer came.
    """
    with make_celery_app(settings) as app:
        answers = app.control.broadcast(
            "ping",
            reply=True,
            timeout=ANSWER_SECONDS,
            limit=1,
            pattern=f"*@{socket.gethostname()}",
            matcher="glob",
        )
    if not answers:
        raise SystemExit("the worker does not answer")


def main() -> None:
    """Check the process that the command line names."""
    settings = Settings()
    match sys.argv[1:]:
        case ["relay"]:
            check_loop(settings, "relay", settings.relay_interval)
        case ["reconciler"]:
            check_loop(settings, "reconciler", settings.reconciler_interval)
        case ["webhook-sender"]:
            check_loop(settings, "webhook-sender", settings.webhook_interval)
        case ["worker"]:
            check_worker(settings)
        case _:
            raise SystemExit("usage: health_check.py relay|reconciler|webhook-sender|worker")


if __name__ == "__main__":
    main()
