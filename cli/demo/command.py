"""The demo, step by step. Each step raises ``DemoError`` if it did not really happen."""

import json
import shutil
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import openai
import typer
from openai.types.fine_tuning import FineTuningJob
from rich.markup import escape

from cli import console
from cli.demo import acceptance
from cli.demo.adapter import require_hash, unpack
from cli.demo.client import DemoClient
from cli.demo.proof import show_samples
from cli.errors import AcceptanceError, DemoError
from cli.interruption import interrupted_once
from cli.keys import new_api_key
from cli.progress import progress_shown_on
from cli.report_table import (
    SafetyReport,
    over_refusal_sentence,
    render_table,
    second_source_sentence,
    verdict_sentence,
)
from cli.stack import RunningStack, running_stack
from core.model_registry import ModelRegistry
from core.resources import resource_path
from core.settings import Settings

MODEL = "smollm2-135m-instruct"
PROJECT = "demo"
JOB_SECONDS = 1800.0  # several times what two cores need
METHOD = {
    "type": "supervised",
    "supervised": {
        "hyperparameters": {},
        "defense": {"type": "alignment_merge"},
    },
}
KEY_LIFETIME = timedelta(hours=1)
ARCHIVE, ADAPTER, REPORT = "adapter.tar", "adapter", "report.json"
HOME = "home"
ANSWER_TOKENS = 32  # the shipped rows' answers are shorter, and four models are asked
INTERRUPTED = 130


def demo_settings(settings: Settings, output: Path) -> Settings:
    """Keep the demo's state beside what it downloads and its answers short, unless told otherwise.

    A ``tuneward serve`` that runs goes on undisturbed. What is kept between two demos, such as the
    converted base model, is found again, and ``make clean`` removes it.
    """
    usual: dict[str, object] = {
        "home": (output / HOME).absolute(),
        "evaluation_answer_tokens": ANSWER_TOKENS,
    }
    return settings.model_copy(
        update={name: usual[name] for name in usual.keys() - settings.model_fields_set}
    )


def run_demo(settings: Settings, output: Path) -> None:
    """Run the whole demo and leave its files in ``output``.

    Raises:
        DemoError: A step failed, or a safety figure missed its target.
    """
    began = time.monotonic()
    _empty(output)
    with interrupted_once():
        try:
            report = _steps(settings, output)
        except openai.OpenAIError as error:
            raise DemoError(f"The gateway did not do what it was asked: {error}") from error
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
        with closing(DemoClient(stack.address, key)) as client:
            job = _train(client, stack)
            _require_success(client, job, output)
            folder, report = _collect(client, job, output)
        show_samples(folder, stack.settings, ModelRegistry.load(stack.settings).get(MODEL))
    _print_report(report)
    console.out.print(f"\nadapter  {escape(str(folder))}", soft_wrap=True)
    console.out.print(f"report   {escape(str(folder / REPORT))}", soft_wrap=True)
    return report


def _train(client: DemoClient, stack: RunningStack) -> FineTuningJob:
    left = client.cancel_unfinished_jobs()
    if left:
        console.note(f"cancelled {left} unfinished job(s) of an earlier demo")
    training = client.upload(resource_path("demo/user_train.jsonl"))
    validation = client.upload(resource_path("demo/user_validation.jsonl"))
    console.done(f"uploaded the user's rows as {training} and {validation}")
    job_id = client.create_job(MODEL, training, validation, METHOD)
    console.done(f"created {job_id} on {MODEL} with the default defense")
    try:
        with progress_shown_on(console.out) as show:
            job = client.watch(job_id, show, stack.tick, JOB_SECONDS)
    except BaseException:
        client.cancel(job_id)
        raise
    return job


def _require_success(client: DemoClient, job: FineTuningJob, output: Path) -> None:
    if job.status == "succeeded":
        console.done(f"{job.id} succeeded as {job.fine_tuned_model}")
        return
    if job.result_files:  # blocked by the gate: the report says by which figures
        _print_report(_read_report(client.download(job.result_files[-1], output / REPORT).path))
    reason = f"{job.error.code}: {job.error.message}" if job.error else "no reason given"
    raise DemoError(f"The job {job.status}. {reason}", hint="the worker's log says more")


def _collect(client: DemoClient, job: FineTuningJob, output: Path) -> tuple[Path, SafetyReport]:
    download = client.download(job.result_files[1], output / ARCHIVE)
    digest = require_hash(download.path, download.announced_sha256)
    console.done(f"downloaded {download.path} (SHA-256 {digest[:16]}…, as announced)")
    folder = unpack(download.path, output / ADAPTER)
    console.done(f"unpacked into {folder}")
    return folder, _read_report(folder / REPORT)


def _read_report(path: Path) -> SafetyReport:
    try:
        return SafetyReport.read(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError) as error:
        raise DemoError(f"The safety report {path} cannot be read: {error!r}") from error


def _print_report(report: SafetyReport) -> None:
    console.out.print()
    console.out.print(render_table(report))
    console.out.print(escape(over_refusal_sentence(report)), soft_wrap=True)
    console.out.print(escape(second_source_sentence(report)), soft_wrap=True)
    console.out.print(escape(verdict_sentence(report)), style="bold", soft_wrap=True)


def _empty(output: Path) -> None:
    """Remove what an earlier demo left, so that whatever lies there afterwards is this one's."""
    output.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output / ADAPTER, ignore_errors=True)
    for name in (ARCHIVE, REPORT):
        (output / name).unlink(missing_ok=True)
