"""Long-running commands: how they stop, and that they do not outlive who started them."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cli import processes
from cli.children import PARENT_VARIABLE
from core.settings import Settings
from tests.unit.cli.test_children import is_running


def test_a_loop_is_told_to_stop_by_term(settings: Settings) -> None:
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def loop(_settings: Settings, stop: threading.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5.0)

    try:
        processes._run_until_stopped(settings, loop)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
def test_a_child_ends_when_its_supervisor_was_killed(tmp_path: Path) -> None:
    note = tmp_path / "child"
    child_code = (
        "import os, pathlib, time; from cli.processes import stop_with_parent;"
        "stop_with_parent();"
        f"pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    parent_code = (
        "import os, subprocess, sys, time;"
        f"environment = {{**os.environ, {PARENT_VARIABLE!r}: str(os.getpid())}};"
        f"subprocess.Popen([sys.executable, '-c', {child_code!r}], env=environment);"
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", parent_code]) as parent:
        deadline = time.monotonic() + 30
        while not (note.exists() and note.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)

        parent.kill()

    assert not is_running(int(note.read_text()))


def test_a_child_whose_supervisor_is_gone_already_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = "from cli.processes import stop_with_parent; stop_with_parent(); print('started')"
    monkeypatch.setenv(PARENT_VARIABLE, "1")

    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert finished.returncode == 1
    assert finished.stdout == ""


def test_a_command_that_no_supervisor_started_asks_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)

    processes.stop_with_parent()

    assert PARENT_VARIABLE not in os.environ
