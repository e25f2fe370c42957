"""A real gateway process, as an operator starts it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

START_SECONDS = 60.0


@dataclass(frozen=True)
class GatewayProcess:
    """A running gateway: where it listens, what it logs, how much memory it took."""

    url: str
    log: Path
    pid: int

    def peak_memory_bytes(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        msg = "this system does not say how much memory a process took"
        raise LookupError(msg)


@contextmanager
def running_gateway(home: Path, database_url: str, **more: str) -> Iterator[GatewayProcess]:
    """Start uvicorn on a free port; stop it when the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = home / "gateway.log"
    environment = os.environ | {
        "TUNEWARD_HOME": str(home),
        "TUNEWARD_DATABASE_URL": database_url,
        **{f"TUNEWARD_{name.upper()}": value for name, value in more.items()},
    }
    command = ["uvicorn", "--factory", "api.main:app_factory", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--no-access-log"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url, process, log)
        yield GatewayProcess(url, log, process.pid)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    msg = f"the gateway did not start: {log.read_text()[-2000:]}"
    raise RuntimeError(msg)
