#!/usr/bin/env python
"""Health check of containers without a port: exit 0 if Postgres and Redis answer from here."""

import redis

from core.database import Database
from core.settings import Settings

ANSWER_SECONDS = 3


def check(settings: Settings) -> None:
    """Ask both servers for an answer; any failure is an exception, and so a failed check."""
    database = Database.from_settings(settings)
    database.ping()
    database.dispose()
    if settings.redis_url is None:
        raise SystemExit("TUNEWARD_REDIS_URL is not set")
    with redis.Redis.from_url(settings.redis_url, socket_timeout=ANSWER_SECONDS) as client:
        client.ping()


if __name__ == "__main__":
    check(Settings())
