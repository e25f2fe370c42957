"""What a guard has added to plain training, in seconds of one machine."""

from collections.abc import Mapping
from typing import Any

from worker.pipeline.decision import number_at


def cost_of(training: Mapping[str, Any], strength: Mapping[str, Any]) -> dict[str, float | None]:
    """Take the times that the stages have measured.

    Args:
        training: What `fine_tune` wrote; an epoch before the last has no time of its own.
        strength: What `perturb` wrote.
    """
    total, guard = number_at(training, "seconds"), number_at(training, "guard_seconds")
    # Without an ending nothing is built, and no time is written.
    ending = number_at(strength, "seconds") if "method" in strength else 0.0
    ratio = None
    if total is not None and guard is not None and ending is not None and total > guard:
        ratio = round((total + ending) / (total - guard), 4)
    return {
        "training_seconds": total,
        "guard_seconds": guard,
        "perturbation_seconds": ending,
        "overhead_ratio": ratio,
    }
