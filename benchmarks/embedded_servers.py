"""How long the embedded Postgres and Redis take to be ready."""

from pathlib import Path

from benchmarks.measurement import Metrics, seconds_metric, stopwatch
from core.embedded.stack import EmbeddedStack
from core.settings import Settings

REPETITIONS = 5


def measure(folder: Path) -> Metrics:
    """Start on an empty home, start again, and restart each server after a crash."""
    first, second, postgres, redis = [], [], [], []
    for repetition in range(REPETITIONS):
        settings = Settings(home=folder / str(repetition), database_url=None, redis_url=None)
        stack = EmbeddedStack(settings)
        with stopwatch() as watch:
            stack.start()
        first.append(watch.seconds)
        stack.stop()
        with stopwatch() as watch:
            stack.start()
        second.append(watch.seconds)
        with stopwatch() as watch:
            stack.kill_postgres()
            stack.restart_postgres()
        postgres.append(watch.seconds)
        with stopwatch() as watch:
            stack.kill_redis()
            stack.restart_redis()
        redis.append(watch.seconds)
        stack.stop()
    return {
        "first_start": seconds_metric(first),
        "second_start": seconds_metric(second),
        "postgres_back_after_kill": seconds_metric(postgres),
        "redis_back_after_kill": seconds_metric(redis),
    }
