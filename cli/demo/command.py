"""The demo, step by step. Each step raises ``DemoError`` if it did not really happen."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import typer
from openai.types.fine_tuning import FineTuningJob
from rich.markup import escape

from cli import console
from cli.demo import acceptance
from cli.demo.adapter import require_hash, unpack
from cli.demo.client import DemoClient
from cli.errors import AcceptanceError, DemoError
from cli.interruption import interrupted_once
from cli.keys import new_api_key
from cli.progress import progress_shown_on
from cli.report_table import SafetyReport, render_table, verdict_sentence
from cli.stack import RunningStack, child_environment, running_stack
from core.model_registry import ModelEntry, ModelRegistry
from core.resources import resource_path
from core.settings import Settings

MODEL = "smollm2-135m-instruct"
PROJECT = "demo"
JOB_SECONDS = 900.0
SAMPLE_SECONDS = 180.0
METHOD = {
    "type": "supervised",
    "supervised": {"hyperparameters": {}, "defense": {"type": "panacea"}},
}
KEY_LIFETIME = timedelta(hours=1)
INTERRUPTED = 130


def run_demo(settings: Settings, output: Path) -> None:
    """Run the whole demo and leave its files in ``output``.

    Raises:
        DemoError: A step failed, or a safety figure missed its target.
    """
    began = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    with interrupted_once():
        try:
            report = _steps(settings, output)
        except KeyboardInterrupt:
            console.warn("interrupted; everything was stopped")
            raise typer.Exit(INTERRUPTED) from None
    console.done(f"stopped everything; the demo took {time.monotonic() - began:.0f} s")
    missed = acceptance.failures(report)
    if missed:
        raise AcceptanceError("The demo ran, but " + "; ".join(missed) + ".")
    console.done("all targets met")


def _steps(settings: Settings, output: Path) -> SafetyReport:
    console.note(f"starting Postgres, Redis, gateway and worker in {settings.home}")
    with running_stack(settings, on_notice=console.warn) as stack:
        console.done(f"gateway ready at {stack.address}")
        key = new_api_key(stack.database, PROJECT, "demo", lifetime=KEY_LIFETIME)
        client = DemoClient(stack.address, key)
        job = _train(client, stack)
        folder, report = _collect(client, job, output)
        _show_samples(folder, stack.settings)
    console.out.print()
    console.out.print(render_table(report))
    console.out.print(escape(verdict_sentence(report)), style="bold", soft_wrap=True)
    console.out.print(f"\nadapter  {escape(str(folder))}", soft_wrap=True)
    console.out.print(f"report   {escape(str(folder / 'report.json'))}", soft_wrap=True)
    return report


def _train(client: DemoClient, stack: RunningStack) -> FineTuningJob:
    left = client.cancel_unfinished_jobs()
    if left:
        console.note(f"cancelled {left} unfinished job(s) of an earlier demo")
    training = client.upload(resource_path("demo/user_train.jsonl"))
    validation = client.upload(resource_path("demo/user_validation.jsonl"))
    console.done(f"uploaded the user's rows as {training} and {validation}")
    job_id = client.create_job(MODEL, training, validation, METHOD)
    console.done(f"created {job_id} on {MODEL} with Panacea")
    try:
        with progress_shown_on(console.out) as show:
            job = client.watch(job_id, show, stack.tick, JOB_SECONDS)
    except BaseException:
        client.cancel(job_id)
        raise
    if job.status != "succeeded":
        reason = f"{job.error.code}: {job.error.message}" if job.error else "no reason given"
        raise DemoError(f"The job {job.status}: {reason}", hint=f"see {stack.settings.home}/logs")
    console.done(f"{job_id} succeeded as {job.fine_tuned_model}")
    return job


def _collect(client: DemoClient, job: FineTuningJob, output: Path) -> tuple[Path, SafetyReport]:
    download = client.download(job.result_files[1], output / "adapter.tar")
    digest = require_hash(download.path, download.announced_sha256)
    console.done(f"downloaded {download.path} (SHA-256 {digest[:16]}…, as announced)")
    folder = unpack(download.path, output / "adapter")
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    console.done(f"unpacked into {folder}")
    return folder, SafetyReport.read(report)


def _show_samples(folder: Path, settings: Settings) -> None:
    """Load the adapter with plain ``peft`` on the base model and let both answer."""
    entry = ModelRegistry.load(settings).get(MODEL)
    conversations = [_task_question(), _harmful_question()]
    answers = _ask(folder, settings, entry, conversations)
    console.done("loaded the adapter with plain peft on the base model; two sample answers:")
    for conversation, answer in zip(conversations, answers, strict=True):
        console.out.print(f"\n  [bold]{escape(conversation[-1]['content'])}[/bold]")
        for name in ("base", "guarded"):
            console.out.print(f"    {name:<8} {escape(' '.join(answer[name].split()))}")


def _ask(
    folder: Path, settings: Settings, entry: ModelEntry, conversations: Sequence[Any]
) -> list[dict[str, str]]:
    request = {
        "adapter": str(folder),
        "model": entry.id,
        "chat_template": entry.chat_template,
        "conversations": conversations,
    }
    try:
        finished = subprocess.run(
            [sys.executable, "-P", "-m", "cli.demo.sample"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            env=child_environment(settings),
            timeout=SAMPLE_SECONDS,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        raise DemoError(f"The adapter cannot be used with peft:\n{error.stderr[-2000:]}") from error
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"peft gave no answer within {SAMPLE_SECONDS:g} s.") from error
    answers: list[dict[str, str]] = json.loads(finished.stdout)
    if any(not answer["guarded"] for answer in answers):
        raise DemoError("The guarded adapter answered with nothing.")
    return answers


def _task_question() -> list[dict[str, str]]:
    rows = resource_path("demo/user_validation.jsonl").read_text(encoding="utf-8")
    messages: list[dict[str, str]] = json.loads(rows.splitlines()[0])["messages"]
    return messages[:-1]


def _harmful_question() -> list[dict[str, str]]:
    rows = resource_path("rows/safety_evaluation.jsonl").read_text(encoding="utf-8")
    return [{"role": "user", "content": str(json.loads(rows.splitlines()[0])["prompt"])}]
