"""When which trainer worked on which job, as the logs of all workers tell it."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations
from typing import Any

from core.stages import Stage
from tests.integration.worker.service import Service

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Interval:
    """One stage in one trainer; times in seconds since the epoch.

    Attributes:
        ended: The end that the trainer logged, or else when it was known to be dead; infinite if
            neither is known.
    """

    pid: int
    job_id: str
    fence: int
    stage: str
    started: float
    ended: float = math.inf


def read_intervals(lines: Iterable[Line], deaths: Mapping[int, float]) -> list[Interval]:
    """Pair starts with ends, in the order of their starts.

    Args:
        lines: Log lines of workers and trainers, in any order.
        deaths: When processes were seen dead, by id, beyond what supervisors logged.
    """
    known_deaths = dict(deaths)
    running: dict[int, Interval] = {}
    intervals: list[Interval] = []
    for line in sorted(lines, key=seconds):
        match line["event"]:
            case "stage_started":
                running[line["pid"]] = Interval(
                    line["pid"], line["job_id"], line["fence"], line["stage"], seconds(line)
                )
            case "stage_ended":
                intervals.append(replace(running.pop(line["pid"]), ended=seconds(line)))
            case "trainer_stopped":
                known_deaths.setdefault(line["trainer_pid"], seconds(line))
    intervals += [
        replace(interval, ended=known_deaths.get(pid, math.inf))
        for pid, interval in running.items()
    ]
    return sorted(intervals, key=lambda interval: interval.started)


def overlaps(intervals: Iterable[Interval]) -> list[tuple[Interval, Interval]]:
    """Find the pairs in which two trainers worked on one job at once."""
    return [
        (one, other)
        for one, other in combinations(intervals, 2)
        if one.job_id == other.job_id
        and one.pid != other.pid
        and one.started < other.ended
        and other.started < one.ended
    ]


def trainers_of_job(service: Service, job_id: str) -> list[int]:
    """Give the job's trainers in their order, having made sure that no two worked at once."""
    intervals = [
        interval
        for interval in read_intervals(log_lines(service), service.deaths)
        if interval.job_id == job_id
    ]
    assert any(interval.stage == Stage.FINE_TUNE for interval in intervals), "it never trained"
    assert overlaps(intervals) == []
    return list(dict.fromkeys(interval.pid for interval in intervals))


def log_lines(service: Service) -> Iterator[Line]:
    """Read the logs of all workers of a service and of their trainers."""
    home = service.settings.home
    for path in [*home.glob("worker-*.log"), *(home / "logs").glob("trainer-*.log")]:
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # what libraries print, and the last word of a killed process
            if isinstance(line, dict) and "timestamp" in line:
                yield line


def seconds(line: Line) -> float:
    """Read the time of a log line."""
    return datetime.fromisoformat(line["timestamp"]).timestamp()
