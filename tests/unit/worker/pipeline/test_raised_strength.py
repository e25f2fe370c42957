"""When the gate's verdict stands, and when more of the perturbation is tried."""

from typing import Any

import pytest

from worker.pipeline.raised_strength import raised_strength


def report(failed: tuple[str, ...] = ("harmful_rate_upper_bound",), **perturbation: Any) -> Any:  # noqa: ANN401
    names = ("harmful_rate_upper_bound", "harmful_rate_of_each_source", "task_accuracy_drop")
    checks = [{"name": name, "value": 0.3, "passed": name not in failed} for name in names]
    return {
        "decision": {"verdict": "blocked" if failed else "released", "checks": checks},
        "perturbation": {"strength": 0.7, "chosen": "measured", "norm": 1.5, **perturbation},
    }


def test_harm_asks_for_more_and_remembers_what_was_tried() -> None:
    raised = raised_strength(report())

    assert raised == {
        "strength": 1.2,
        "chosen": "measured",
        "norm": 1.5,
        "raised": [
            {
                "strength": 0.7,
                "harmful_rate_upper_bound": 0.3,
                "failed": ["harmful_rate_upper_bound"],
            }
        ],
    }


def test_no_more_than_the_search_itself_would_try() -> None:
    raised = raised_strength(report(strength=1.8))

    assert raised is not None
    assert raised["strength"] == 2.0


@pytest.mark.parametrize(
    "stands",
    [
        pytest.param(report(()), id="released"),
        pytest.param(report(("harmful_rate_upper_bound", "task_accuracy_drop")), id="useless too"),
        pytest.param(report(("task_accuracy_drop",)), id="useless"),
        pytest.param(report(chosen="fixed by the job"), id="fixed by the job"),
        pytest.param(report(chosen="no defense", strength=0.0), id="no defense"),
        pytest.param(report(strength=2.0), id="strongest"),
        pytest.param(report(raised=[{}, {}]), id="tried twice"),
        pytest.param(report(strength=None), id="no number"),
    ],
)
def test_otherwise_the_verdict_stands(stands: dict[str, Any]) -> None:
    assert raised_strength(stands) is None
