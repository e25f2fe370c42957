"""The container's health check, asked about a real worker."""

import os
import subprocess
import sys
from pathlib import Path

from tests.integration.worker.service import Service

ROOT = Path(__file__).parents[3]
HEALTH_CHECK = ROOT / "deploy" / "docker" / "health_check.py"


def test_a_worker_that_waits_for_work_is_healthy(worked_service: Service) -> None:
    worked_service.workers[0].wait_until_ready()

    done = subprocess.run(
        [sys.executable, str(HEALTH_CHECK), "worker"],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TUNEWARD_REDIS_URL": str(worked_service.settings.redis_url),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
