"""The check that no job is trained twice at once does find it when one is."""

import math
from datetime import UTC, datetime

from tests.integration.worker.trainings import Line, overlaps, read_intervals


def stage(event: str, at: float, *, pid: int, job_id: str = "a") -> Line:
    return {**line(event, at), "pid": pid, "job_id": job_id, "fence": pid, "stage": "fine_tune"}


def line(event: str, at: float) -> dict[str, object]:
    return {"event": event, "timestamp": datetime.fromtimestamp(at, UTC).isoformat()}


def test_two_trainers_on_one_job_overlap() -> None:
    lines = [
        stage("stage_started", 1, pid=1),
        stage("stage_started", 2, pid=2),
        stage("stage_ended", 3, pid=1),
        stage("stage_ended", 4, pid=2),
    ]

    (pair,) = overlaps(read_intervals(lines, {}))

    assert [(found.pid, found.started, found.ended) for found in pair] == [(1, 1, 3), (2, 2, 4)]


def test_two_jobs_at_once_and_one_job_twice_in_turn_do_not() -> None:
    lines = [
        stage("stage_started", 1, pid=1),
        stage("stage_started", 1, pid=2, job_id="b"),
        stage("stage_ended", 2, pid=1),
        stage("stage_started", 3, pid=3),
        stage("stage_ended", 4, pid=2, job_id="b"),
        stage("stage_ended", 4, pid=3),
    ]

    assert overlaps(read_intervals(lines, {})) == []


def test_a_killed_trainer_works_until_it_is_dead() -> None:
    lines = [
        stage("stage_started", 1, pid=1),
        stage("stage_started", 5, pid=2),
        stage("stage_ended", 6, pid=2),
    ]
    stopped = {**line("trainer_stopped", 4), "trainer_pid": 1}

    assert overlaps(read_intervals(lines, {1: 4})) == []
    assert overlaps(read_intervals([*lines, stopped], {})) == []
    assert len(overlaps(read_intervals(lines, {1: 5.5}))) == 1


def test_a_trainer_whose_end_nobody_knows_works_for_ever() -> None:
    lines = [stage("stage_started", 1, pid=1), stage("stage_started", 9, pid=2)]

    first, second = read_intervals(lines, {})

    assert first.ended == second.ended == math.inf
    assert overlaps([first, second]) == [(first, second)]
