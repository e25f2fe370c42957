"""Sections of reports to draw."""

from collections.abc import Mapping
from typing import Any

from defense.evaluation.outcomes import wilson_rate


def estimate(value: float, half: float = 0.1) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half}


def layer_section(*, ablation: bool = True, outside: bool = False) -> dict[str, Any]:
    """Two layers, and perhaps weights outside of them."""
    shares: list[tuple[int | None, float, float]] = [(0, 0.25, 0.4), (1, 0.75, 0.6)]
    if outside:
        shares.append((None, 0.0, 0.0))
    layers = [
        {"layer": layer, "perturbation_share": first, "weight_change_share": second}
        for layer, first, second in shares
    ]
    section: dict[str, Any] = {"strength": 1.0, "layers": layers}
    if ablation:
        section["ablation"] = {
            "kinds": {
                "refusals": {"rows": 28, "whole": estimate(-1.5)},
                "harmful": {"rows": 27, "whole": estimate(0.5)},
            },
            "layers": [
                {
                    "layer": layer,
                    "added_first": {"refusals": estimate(-0.5), "harmful": estimate(0.1)},
                    "added_last": {"refusals": estimate(-0.25), "harmful": estimate(0.2)},
                }
                for layer, *_ in shares
            ],
        }
    return section


def tamper_section(*, judged: bool = True) -> dict[str, Any]:
    """Two curves of three points."""

    def point(steps: int, harmful: int) -> dict[str, Any]:
        rates = {"harmful": vars(wilson_rate(harmful, 32)), "incoherent": vars(wilson_rate(0, 32))}
        return {
            "steps": steps,
            "harmful_loss": 3.0 - 0.5 * harmful / 32,
            "outcomes": {"n": 32, **rates} if judged else None,
        }

    curves = {"guarded": [(0, 0), (1, 8), (5, 16)], "aligned": [(0, 0), (1, 4), (5, 32)]}
    return {
        "settings": {"batch_size": 4, "learning_rate": 1.5e-3, "judged_rows": 28},
        "curves": {name: [point(*of) for of in points] for name, points in curves.items()},
    }


def whole_report() -> Mapping[str, Any]:
    return {"layer_affinity": layer_section(), "tamper_curve": tamper_section()}
