"""The safety report of a job, as a table people can read.

Knows the report's JSON and rich; knows nothing of jobs, HTTP or models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from rich.table import Table

ORDER = ("base", "aligned", "tuned", "guarded")
CAPTION = """\
Per cent with 95 % intervals. Broken text is incoherent, never safe.
base: the public model; aligned: with the adapter that jobs continue;
tuned: after the user's rows, without the guard; guarded: what is released."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share between 0 and 1 with its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self:
        """Read the report's form of a rate."""
        return cls(value=float(raw["value"]), low=float(raw["low"]), high=float(raw["high"]))

    def __str__(self) -> str:
        """Write it in per cent: ``97.0 (92-99)``."""
        return f"{self.value * 100:.1f} ({self.low * 100:.0f}-{self.high * 100:.0f})"


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """How one set of weights did on the shared prompts and on the user's task."""

    name: str
    prompts: int
    harmful: Rate
    refused: Rate
    incoherent: Rate
    over_refused: Rate | None
    task_accuracy: Rate | None

    @classmethod
    def read(cls, name: str, raw: Mapping[str, Any]) -> Self:
        """Read one model's part of the report."""
        safety, accuracy = raw["safety"], raw.get("task_accuracy")
        over_refused = raw.get("over_refusal_rate")
        return cls(
            name=name,
            prompts=int(safety["n"]),
            harmful=Rate.read(safety["harmful"]),
            refused=Rate.read(safety["refused"]),
            incoherent=Rate.read(safety["incoherent"]),
            over_refused=Rate.read(over_refused) if over_refused else None,
            task_accuracy=Rate.read(accuracy) if accuracy else None,
        )


@dataclass(frozen=True, kw_only=True)
class SafetyReport:
    """The part of ``report.json`` that the table and the demo's acceptance need."""

    models: Mapping[str, ModelScores]
    verdict: str
    reasons: Sequence[str]
    strength: float | None
    classifier: str
    second_source: Mapping[str, Rate]

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self:
        """Read a whole report.

        Raises:
            KeyError: The report is of another format.
        """
        evaluation, decision = raw["evaluation"], raw["decision"]
        parts = evaluation["models"]
        return cls(
            models={name: ModelScores.read(name, parts[name]) for name in ORDER if name in parts},
            verdict=str(decision["verdict"]),
            reasons=tuple(str(reason) for reason in decision["reasons"]),
            strength=raw["perturbation"].get("strength"),
            classifier=str(evaluation["classifier"]["name"]),
            second_source=_second_source(raw),
        )


def _second_source(raw: Mapping[str, Any]) -> dict[str, Rate]:
    """Read the harmful rates on the second source; a report of version 1 has none."""
    sources = (raw.get("harm_sources") or {}).get("sources", ())
    models: Mapping[str, Any] = next(
        (one["models"] for one in sources if one["name"] == "second_safety"), {}
    )
    return {
        name: Rate.read(models[name]["outcomes"]["harmful"]) for name in ORDER if name in models
    }


def render_table(report: SafetyReport) -> Table:
    """Return the table: one row per model, each rate with its 95 % interval in per cent."""
    prompts = next(iter(report.models.values())).prompts
    table = Table(
        title=f"Safety report: {prompts} unseen harmful prompts, judged by {report.classifier}",
        caption=CAPTION,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("model", overflow="fold")
    for heading in ("harmful %", "refused %", "incoherent %", "task accuracy %"):
        table.add_column(heading, justify="right", overflow="fold")
    for scores in report.models.values():
        table.add_row(
            f"[bold]{scores.name}[/bold]",
            str(scores.harmful),
            str(scores.refused),
            str(scores.incoherent),
            str(scores.task_accuracy) if scores.task_accuracy else "-",
        )
    return table


def over_refusal_sentence(report: SafetyReport) -> str:
    """Say how many harmless look-alikes each model refused: the price of refusing harm."""
    rates = ", ".join(
        f"{name} {scores.over_refused}"
        for name, scores in report.models.items()
        if scores.over_refused is not None
    )
    return f"Harmless look-alikes refused, per cent: {rates or 'not measured'}."


def second_source_sentence(report: SafetyReport) -> str:
    """Say how the models did on harmful prompts of another origin than the defender's rows."""
    rates = ", ".join(f"{name} {rate}" for name, rate in report.second_source.items())
    return f"Harmful on prompts of another origin, per cent: {rates or 'not measured'}."


def verdict_sentence(report: SafetyReport) -> str:
    """Say in one sentence what the defense did to this job's adapter."""
    tuned, guarded = report.models["tuned"].harmful.value, report.models["guarded"].harmful.value
    reasons = f" ({' '.join(report.reasons)})" if report.reasons else ""
    dose = "" if report.strength is None else f" with strength {report.strength:g}"
    change = f"fell from {tuned:.1%} to {guarded:.1%}" if guarded < tuned else "did not fall"
    return f"{report.verdict.capitalize()}{reasons}: harmful answers {change}{dose}."
