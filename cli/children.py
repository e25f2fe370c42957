"""Child processes of ``tuneward serve``: started, watched, restarted, stopped together.

The supervisor has no thread of its own. Its owner calls ``tick`` in whatever loop it runs, so every
child is started by the same thread; on Linux a child may ask the kernel to be stopped when that
thread ends (see ``cli.processes.stop_with_parent``).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cli.errors import ServiceGaveUpError

PARENT_VARIABLE = "TUNEWARD_PARENT_PROCESS"
LOG_TAIL_LINES = 20


@dataclass(frozen=True, kw_only=True)
class Service:
    """One program that ``tuneward serve`` keeps running."""

    name: str
    command: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RestartPolicy:
    """How patiently a dying child is started again.

    The wait doubles from ``first_delay_seconds`` to ``longest_delay_seconds``. A child that stayed
    up for ``healthy_after_seconds`` starts again with a clean slate.
    """

    attempts: int = 5
    first_delay_seconds: float = 0.5
    longest_delay_seconds: float = 8.0
    healthy_after_seconds: float = 60.0

    def delay_before(self, attempt: int) -> float:
        """Return the wait in seconds before restart number ``attempt``, counted from 1."""
        return min(self.first_delay_seconds * 2.0 ** (attempt - 1), self.longest_delay_seconds)


@dataclass
class Child:
    """A running (or waiting to be restarted) process of one service."""

    service: Service
    log_path: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restarts: int = 0
    restart_at: float | None = None

    def start(self, environment: Mapping[str, str], now: float) -> None:
        """Start the process in its own group, its output appended to the log."""
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,  # Ctrl-C reaches the supervisor only; it stops the rest
            )
        self.started_at = now
        self.restart_at = None

    def is_alive(self) -> bool:
        """Say whether the process runs right now."""
        return self.process is not None and self.process.poll() is None

    def send(self, signal_number: int) -> None:
        """Send a signal to the service's own process, which forwards it as it sees fit."""
        if self.process is not None and self.is_alive():
            with suppress(ProcessLookupError):
                self.process.send_signal(signal_number)

    def sweep_group(self) -> None:
        """Kill whatever the process left behind in its group, and collect its exit status."""
        if self.process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def log_tail(self) -> str:
        """Return the last lines of the log, for a message that explains a death."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-LOG_TAIL_LINES:])


@dataclass
class Supervisor:
    """Keeps a set of services running until told to stop."""

    services: Sequence[Service]
    environment: Mapping[str, str]
    log_folder: Path
    on_notice: Callable[[str], None]
    policy: RestartPolicy = field(default_factory=RestartPolicy)
    clock: Callable[[], float] = time.monotonic
    children: list[Child] = field(default_factory=list, init=False)

    def start(self) -> None:
        """Start every service once; the log of an earlier run is kept as ``<name>.log.1``."""
        self.log_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for service in self.services:
            log_path = self.log_folder / f"{service.name}.log"
            if log_path.exists():
                log_path.replace(log_path.with_suffix(".log.1"))
            child = Child(service=service, log_path=log_path)
            self.children.append(child)
            child.start(self._child_environment(), self.clock())

    def tick(self) -> None:
        """Look at every child once: note deaths, restart those whose wait is over.

        Raises:
            ServiceGaveUpError: A child has died more often than the policy allows.
        """
        for child in self.children:
            if child.is_alive():
                continue
            if child.restart_at is None:
                self._schedule_restart(child)
            elif self.clock() >= child.restart_at:
                child.sweep_group()
                child.start(self._child_environment(), self.clock())

    def stop(self, grace_seconds: float) -> None:
        """Ask every child to stop, wait, then kill what is left. Safe to call twice."""
        for child in self.children:
            child.send(signal.SIGTERM)
        deadline = self.clock() + grace_seconds
        while any(child.is_alive() for child in self.children) and self.clock() < deadline:
            time.sleep(0.05)
        for child in self.children:
            if child.is_alive():
                self.on_notice(f"{child.service.name} did not stop in time and was killed")
            child.sweep_group()
        self.children.clear()

    def _schedule_restart(self, child: Child) -> None:
        now = self.clock()
        if now - child.started_at >= self.policy.healthy_after_seconds:
            child.restarts = 0
        child.restarts += 1
        status = describe_exit(child.process.returncode if child.process else None)
        if child.restarts > self.policy.attempts:
            raise ServiceGaveUpError(
                f"{child.service.name} {status} and did not stay up after "
                f"{self.policy.attempts} restarts; its last lines were:\n{child.log_tail()}",
                hint=f"the whole log is {child.log_path}",
            )
        delay = self.policy.delay_before(child.restarts)
        child.restart_at = now + delay
        self.on_notice(f"{child.service.name} {status}; restarting in {delay:g} s")

    def _child_environment(self) -> dict[str, str]:
        return {**self.environment, PARENT_VARIABLE: str(os.getpid())}


def describe_exit(return_code: int | None) -> str:
    """Say in words how a process ended."""
    if return_code is None:
        return "could not be started"
    if return_code < 0:
        return f"was killed by {signal.Signals(-return_code).name}"
    return f"exited with status {return_code}"


def own_command(*arguments: str) -> tuple[str, ...]:
    """Return the command line that runs ``tuneward <arguments>`` with this very interpreter.

    ``-P`` keeps the folder the user stands in off the import path: it may hold a ``core`` too.
    """
    return (sys.executable, "-P", "-m", "cli", *arguments)
