"""Proof that the downloaded adapter works: plain ``peft`` on the base model answers with it."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from cli import console
from cli.errors import DemoError
from cli.stack import child_environment
from core.model_registry import ModelEntry
from core.resources import resource_path
from core.settings import Settings

SAMPLE_SECONDS = 180.0


def show_samples(folder: Path, settings: Settings, entry: ModelEntry) -> None:
    """Load the adapter on the base model in a process of its own and print both answers.

    Raises:
        DemoError: The adapter cannot be loaded, or answers with nothing.
    """
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
    if not any(answer["guarded"] for answer in answers):
        raise DemoError("The guarded adapter answered with nothing.")
    return answers


def _task_question() -> list[dict[str, str]]:
    rows = resource_path("demo/user_validation.jsonl").read_text(encoding="utf-8")
    messages: list[dict[str, str]] = json.loads(rows.splitlines()[0])["messages"]
    return messages[:-1]


def _harmful_question() -> list[dict[str, str]]:
    rows = resource_path("rows/safety_evaluation.jsonl").read_text(encoding="utf-8")
    return [{"role": "user", "content": str(json.loads(rows.splitlines()[0])["prompt"])}]
