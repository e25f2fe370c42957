"""When which trainer worked on which job, as the logs of all workers tell it."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import combinations, groupby
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

    Raises:
        AssertionError: A trainer began a stage, though its last one had not ended.
    """
    in_order = sorted(lines, key=seconds)
    died = [*deaths.items(), *_logged_deaths(in_order)]
    running: dict[int, Interval] = {}
    intervals: list[Interval] = []
    for line in in_order:
        match line["event"]:
            case "stage_started":
                begun = _begin(line, died)
                if (last := running.pop(begun.pid, None)) is not None:
                    assert last.ended <= begun.started, ("two stages of one trainer", last, begun)
                    intervals.append(last)
                running[begun.pid] = begun
            case "stage_ended":
                intervals.append(replace(running.pop(line["pid"]), ended=seconds(line)))
    return sorted([*intervals, *running.values()], key=lambda interval: interval.started)


def _logged_deaths(lines: Iterable[Line]) -> Iterator[tuple[int, float]]:
    for line in lines:
        if line["event"] == "trainer_stopped":
            yield line["trainer_pid"], seconds(line)


def _begin(line: Line, died: Iterable[tuple[int, float]]) -> Interval:
    """Begin an interval that lasts until the process was dead, if no end is logged."""
    pid, started = line["pid"], seconds(line)
    # An earlier death was that of another process with this id.
    ended = min((at for dead, at in died if dead == pid and at >= started), default=math.inf)
    return Interval(pid, line["job_id"], line["fence"], line["stage"], started, ended)


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
    assert_one_after_the_other(intervals)
    return list(dict.fromkeys(interval.pid for interval in intervals))


def assert_one_after_the_other(intervals: Sequence[Interval]) -> None:
    """Fail unless each of a job's trainers began after the one before it was done for good.

    Stages that take turns overlap nowhere: then an old fence follows a new one, two trainers have
    one fence, or a trainer comes back.

    Args:
        intervals: Of one job, in the order of their starts.
    """
    assert overlaps(intervals) == []
    fences = [interval.fence for interval in intervals]
    assert fences == sorted(fences), ("an old fence works after a new one", intervals)
    holders = {(interval.fence, interval.pid) for interval in intervals}
    assert len(holders) == len(set(fences)), ("two trainers have one fence", holders)
    turns = [pid for pid, _ in groupby(interval.pid for interval in intervals)]
    assert len(turns) == len(set(turns)), ("a trainer comes back after another", turns)


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
