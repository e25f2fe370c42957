"""The supervisor, on real processes that last for fractions of a second."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from cli.children import RestartPolicy, Service, Supervisor, describe_exit
from cli.errors import ServiceGaveUpError

SLEEP = "import time; time.sleep(60)"
IMPATIENT = RestartPolicy(attempts=2, first_delay_seconds=0.01, longest_delay_seconds=0.02)
Start = Callable[..., Supervisor]


def python(name: str, code: str) -> Service:
    return Service(name=name, command=(sys.executable, "-c", code))


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def start(tmp_path: Path, notices: list[str]) -> Iterator[Start]:
    started: list[Supervisor] = []

    def start_services(services: Sequence[Service], policy: RestartPolicy) -> Supervisor:
        supervisor = Supervisor(
            services=services,
            environment=dict(os.environ),
            log_folder=tmp_path / "logs",
            on_notice=notices.append,
            policy=policy,
        )
        started.append(supervisor)
        supervisor.start()
        return supervisor

    yield start_services
    for supervisor in started:
        supervisor.stop(0.0)


def process_id(supervisor: Supervisor) -> int:
    process = supervisor.children[0].process
    assert process is not None
    return process.pid


def tick_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing changed within 20 s"
        supervisor.tick()
        time.sleep(0.01)


def test_a_child_that_was_killed_is_started_again(start: Start, notices: list[str]) -> None:
    supervisor = start([python("sleeper", SLEEP)], IMPATIENT)
    first = process_id(supervisor)

    os.kill(first, signal.SIGKILL)
    tick_until(supervisor, lambda: process_id(supervisor) != first)

    assert supervisor.children[0].is_alive()
    assert notices == ["sleeper was killed by SIGKILL; restarting in 0.01 s"]


def test_a_child_that_never_stays_up_ends_the_service_with_its_last_words(start: Start) -> None:
    supervisor = start([python("broken", "print('no such table'); raise SystemExit(3)")], IMPATIENT)

    with pytest.raises(ServiceGaveUpError, match="exited with status 3") as caught:
        tick_until(supervisor, lambda: False)

    assert "no such table" in caught.value.message
    assert "after 2 restarts" in caught.value.message


def test_a_child_that_was_healthy_for_long_starts_with_a_clean_slate(start: Start) -> None:
    always_healthy = RestartPolicy(
        attempts=1, first_delay_seconds=0.0, longest_delay_seconds=0.0, healthy_after_seconds=0.0
    )
    supervisor = start([python("short", "pass")], always_healthy)
    seen = {process_id(supervisor)}

    def three_generations() -> bool:
        seen.add(process_id(supervisor))
        return len(seen) >= 3

    tick_until(supervisor, three_generations)

    assert supervisor.children[0].restarts == 1


def test_stop_leaves_no_process_behind_not_even_a_grandchild(start: Start, tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    code = (
        "import subprocess, sys, time, pathlib;"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}]);"
        f"pathlib.Path({str(note)!r}).write_text(str(child.pid));"
        "time.sleep(60)"
    )
    supervisor = start([python("parent", code)], IMPATIENT)
    tick_until(supervisor, lambda: note.exists() and note.read_text() != "")
    parent, grandchild = process_id(supervisor), int(note.read_text())

    supervisor.stop(5.0)

    assert not is_running(parent)
    assert not is_running(grandchild)


def test_a_child_that_ignores_term_is_killed_after_the_grace(
    start: Start, notices: list[str], tmp_path: Path
) -> None:
    note = tmp_path / "ready"
    code = (
        "import signal, time, pathlib;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"pathlib.Path({str(note)!r}).touch();"
        "time.sleep(60)"
    )
    supervisor = start([python("stubborn", code)], IMPATIENT)
    tick_until(supervisor, note.exists)
    pid = process_id(supervisor)

    supervisor.stop(0.2)

    assert not is_running(pid)
    assert notices == ["stubborn did not stop in time and was killed"]


def test_the_log_of_the_run_before_is_kept_once(start: Start, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "talker.log").write_text("from before\n")

    supervisor = start([python("talker", f"print('now', flush=True); {SLEEP}")], IMPATIENT)
    tick_until(supervisor, lambda: "now" in (logs / "talker.log").read_text())

    assert (logs / "talker.log.1").read_text() == "from before\n"
    assert (logs / "talker.log").read_text() == "now\n"


def test_the_wait_before_a_restart_doubles_up_to_a_limit() -> None:
    policy = RestartPolicy(first_delay_seconds=0.5, longest_delay_seconds=3.0)

    delays = [policy.delay_before(attempt) for attempt in (1, 2, 3, 4)]

    assert delays == [0.5, 1.0, 2.0, 3.0]


def test_the_end_of_a_process_is_put_into_words() -> None:
    assert describe_exit(None) == "could not be started"
    assert describe_exit(-15) == "was killed by SIGTERM"
    assert describe_exit(7) == "exited with status 7"


def is_running(pid: int) -> bool:
    """Say whether a process runs; one that ended but was not collected yet does not."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return False
        if state == "Z":
            return False
        time.sleep(0.02)
    return True
