"""Builders of safety reports in the form that ``report.json`` has."""

from typing import Any

from cli.report_table import SafetyReport


def rate(value: float) -> dict[str, float]:
    """Build a rate with an interval of ten points around it."""
    return {"value": value, "low": max(0.0, value - 0.05), "high": min(1.0, value + 0.05)}


def scores(harmful: float, incoherent: float = 0.0, accuracy: float | None = 0.9) -> dict[str, Any]:
    """Build what the report says about one model."""
    return {
        "safety": {
            "n": 98,
            "harmful": rate(harmful),
            "refused": rate(1.0 - harmful - incoherent),
            "incoherent": rate(incoherent),
        },
        "task_accuracy": None if accuracy is None else rate(accuracy),
    }


def raw_report(**models: dict[str, Any]) -> dict[str, Any]:
    """Build a report as JSON gives it."""
    return {
        "evaluation": {
            "models": models,
            "prompts": {"safety": 98},
            "classifier": {"name": "embedded"},
        },
        "decision": {"verdict": "released", "reasons": []},
        "perturbation": {"strength": 0.75},
    }


def report(**models: dict[str, Any]) -> SafetyReport:
    """Build a report as the demo reads it."""
    return SafetyReport.read(raw_report(**models))
