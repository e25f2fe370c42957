"""Every route, called with much that the OpenAPI document allows and much that it does not.

`make test-schema` makes many more calls, other ones each time; `TEST_SCHEMA_SEED` repeats a run.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from core.database import Database
from core.models import Scope
from core.provision import create_key
from core.settings import Settings
from tests.inference_server import running_inference
from tests.integration.api.builders import GOOD_ROWS
from tests.integration.api.server import running_gateway
from tests.tiny_registry import write_tiny_registry

IS_LONG = os.environ.get("TEST_SCHEMA") == "long"
# A failure at one seed in a thousand helps nobody in the default run.
SEED = os.environ.get("TEST_SCHEMA_SEED") or ("" if IS_LONG else "1")
LONGEST_LINE = 2_000
FUZZED, WALKS = (200, 400) if IS_LONG else (3, 40)
CONFIGURATION = f"""
[checks.negative_data_rejection]
# A body may be too large before it is anything else.
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "429", "431"]
[phases.fuzzing.generation]
max-examples = {FUZZED}
[phases.stateful.generation]
max-examples = {WALKS}
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200 if IS_LONG else 300)]


def call_every_route(
    url: str, key: str, training_file: str, folder: Path
) -> "subprocess.CompletedProcess[str]":
    """Have schemathesis read the document and call what it describes."""
    hooks = {
        "SCHEMA_TRAINING_FILE": training_file,
        "SCHEMATHESIS_HOOKS": "tests.integration.api.schema_checks",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        f"{url}/openapi.json",
        f"--header=Authorization: Bearer {key}",
        "--checks=all",
        # schema_checks.py has its own in place of these
        "--exclude-checks=positive_data_acceptance,ensure_resource_availability",
        "--suppress-health-check=all",
        "--request-timeout=60",  # the first grader of a process imports its library
        "--generation-database=none",
        "--continue-on-failure",
        "--no-color",
        *((f"--seed={SEED}",) if SEED else ()),
    ]
    return subprocess.run(
        command, cwd=folder, env=os.environ | hooks, capture_output=True, text=True, check=False
    )


def test_no_answer_departs_from_the_document(
    database_url: str, database: Database, tmp_path: Path
) -> None:
    with database.session() as session:
        key = create_key(session, project_name="schema", scopes=list(Scope)).text

    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION)
    models = tmp_path / "models"
    models.mkdir()
    models_file = write_tiny_registry(models, model_id="smollm2-135m-instruct")
    home = tmp_path / "inference"
    usual = Settings(home=home, database_url=database_url, models_file=models_file)
    limits = {"requests_per_minute": "0", "project_queued_jobs": "1000000"}
    with (
        running_inference(usual) as served,
        running_gateway(
            tmp_path,
            database_url,
            models_file=str(models_file),
            inference_url=str(served.inference_url),
            inference_token=str(served.inference_token),
            **limits,
        ) as server,
    ):
        file = httpx.post(
            f"{server.url}/v1/files",
            headers={"Authorization": f"Bearer {key}"},
            data={"purpose": "fine-tune"},
            files={"file": ("rows.jsonl", GOOD_ROWS)},
        ).json()
        finished = call_every_route(server.url, key, file["id"], tmp_path)
        log = server.log.read_text()

    shown = "\n".join(line[:LONGEST_LINE] for line in finished.stdout.splitlines())
    assert finished.returncode == 0, shown[-30_000:] + finished.stderr
    assert "request_crashed" not in log
    tested = re.search(r"Selected: (\d+)/\1\n +Tested: \1\n", finished.stdout)
    assert tested, finished.stdout[-3_000:]
    followed = re.search(r"API Links: +(\d+) covered", finished.stdout)
    assert followed, finished.stdout[-3_000:]
    assert int(followed[1]) >= 5
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert f"✅ {phase}" in finished.stdout
