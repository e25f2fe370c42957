"""The safety report and the model card that go with an adapter."""

import json
from collections.abc import Mapping
from typing import Any, Final

from defense.job_defense import JobDefense
from worker.pipeline.decision import number_at

MODEL_ROWS: Final = (
    ("base", "Base model"),
    ("aligned", "Aligned model, before training"),
    ("tuned", "Tuned model, not guarded"),
    ("guarded", "Guarded model (this adapter)"),
)


def report_bytes(report: Mapping[str, Any]) -> bytes:
    """Write a report; equal reports give equal bytes.

    Raises:
        ValueError: A number is not finite.
    """
    text = json.dumps(report, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


def guard_settings(defense: JobDefense, strength: Mapping[str, Any]) -> dict[str, float | None]:
    """Give the numbers that papers name rho, kappa and lambda, of whichever method has them."""
    radius, regularization = "perturbation_radius", "regularization_strength"
    training = defense.fine_tuning.model_dump()
    ending = {} if defense.ending is None else defense.ending.model_dump()
    return {
        "training_radius": number_at(training, radius),
        radius: number_at(ending, radius),
        "perturbation_strength": number_at(strength, "strength"),
        regularization: number_at(training, regularization),
        "perturbation_norm": number_at(strength, "norm"),
    }


def model_card(report: Mapping[str, Any]) -> str:
    """Write the README of an adapter."""
    base = report["base_model"]
    verdict = report["decision"]["verdict"]
    lines = [
        "---",
        "library_name: peft",
        f"base_model: {base['id']}",
        "tags: [lora, tuneward]",
        "---",
        "",
        f"# Adapter of job {report['job_id']}{_at_step(report['checkpoint_step'])}",
        "",
        (
            f"A LoRA adapter for {base['title']} ({base['licence']}), fine-tuned by Tuneward with "
            f"the defense `{report['defense']['type']}`. Load it with plain `peft`:"
        ),
        "",
        "```python",
        "from peft import PeftModel",
        "model = PeftModel.from_pretrained(base_model, folder)",
        "```",
        "",
        (
            f"Source of the base model: `{base['source']}`, SHA-256 of its weights "
            f"`{base['weights_sha256']}`. SHA-256 of `adapter_model.safetensors`: "
            f"`{report['adapter']['sha256']}`."
        ),
        "",
        "## Safety",
        "",
        (
            f"Verdict of the gate: **{verdict}**. Answers to "
            f"{report['evaluation']['prompts']['safety']} harmful prompts, of each the first "
            f"{report['evaluation']['answer_tokens']} tokens, judged by "
            f"`{report['evaluation']['classifier']['name']}`; how many harmless look-alikes are "
            "refused; rates with 95 % intervals:"
        ),
        "",
        *_table(
            report["evaluation"]["models"],
            "preference accuracy" if report["method"] == "dpo" else "task accuracy",
        ),
        "",
        *_second_source(report),
        *(f"**Warning.** {warning['message']}\n" for warning in report["warnings"]),
        "`report.json` holds every number and how it was measured.",
        "",
        "## What this does not promise",
        "",
        *(f"- {sentence}" for sentence in report["not_promised"]),
        "",
    ]
    return "\n".join(lines)


def _at_step(step: int | None) -> str:
    return "" if step is None else f", checkpoint at step {step}"


def _second_source(report: Mapping[str, Any]) -> list[str]:
    """Tell what a second kind of prompts found, and a second judge."""
    second = report["harm_sources"]["sources"][1]
    guarded = second["models"]["guarded"]["outcomes"]
    tuned = second["models"]["tuned"]["outcomes"]
    judge = report["second_judge"]
    return [
        "",
        (
            f"On {guarded['n']} harmful prompts of another origin (`{second['file']}`), harmful "
            f"answers went from {_cell(tuned['harmful'])} to {_cell(guarded['harmful'])}. A second "
            f"judge (`{judge['name']}`) agrees on {judge['overall']['share']:.0%} of all answers."
        ),
        "",
    ]


def _table(models: Mapping[str, Any], task: str) -> list[str]:
    lines = [
        f"| model | harmful | refused | incoherent | harmless refused | {task} |",
        "|---|---|---|---|---|---|",
    ]
    for name, title in MODEL_ROWS:
        if name in models:
            safety = models[name]["safety"]
            cells = [_cell(safety[kind]) for kind in ("harmful", "refused", "incoherent")]
            cells += [
                _cell(models[name].get(rate)) for rate in ("over_refusal_rate", "task_accuracy")
            ]
            lines.append(f"| {title} | {' | '.join(cells)} |")
    return lines


def _cell(rate: Mapping[str, Any] | None) -> str:
    if rate is None:
        return "not measured"
    return f"{rate['value']:.0%} ({rate['low']:.0%} to {rate['high']:.0%})"
