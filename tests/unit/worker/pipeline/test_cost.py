"""What a guard has added, from what the stages have written."""

from typing import Any

import pytest

from worker.pipeline.cost import cost_of

TRAINED = {"seconds": 12.0, "guard_seconds": 2.0}
BUILT = {"strength": 0.5, "method": "refusal_restoration", "seconds": 1.0}
UNGUARDED = {"strength": 0.0, "chosen": "no defense"}


@pytest.mark.parametrize(
    ("training", "strength", "ratio"),
    [
        (TRAINED, BUILT, 1.3),  # (12 + 1) / (12 - 2)
        (TRAINED, UNGUARDED, 1.2),
        ({"seconds": 12.0, "guard_seconds": 0.0}, UNGUARDED, 1.0),
        ({"seconds": 12.0, "guard_seconds": None}, BUILT, None),  # of a run that was taken up again
        ({"seconds": 12.0}, BUILT, None),  # of an earlier release
        ({"steps": 3}, BUILT, None),  # of an epoch before the last
        (TRAINED, {"strength": 0.5, "method": "refusal_restoration"}, None),
    ],
)
def test_overhead_is_all_over_what_plain_training_would_have_taken(
    training: dict[str, Any], strength: dict[str, Any], ratio: float | None
) -> None:
    assert cost_of(training, strength)["overhead_ratio"] == ratio


def test_times_are_passed_on() -> None:
    assert cost_of(TRAINED, BUILT) == {
        "training_seconds": 12.0,
        "guard_seconds": 2.0,
        "perturbation_seconds": 1.0,
        "overhead_ratio": 1.3,
    }
