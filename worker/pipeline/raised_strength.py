"""What follows when the gate finds an adapter harmful: more perturbation, and the gate again.

The strength was chosen on other prompts than the gate's, and may turn out too low. Only one that
was searched is raised, since a job that fixes its strength has asked for that one. What is judged
again is packaged again: whatever is released are bytes that were evaluated.
"""

from collections.abc import Mapping
from typing import Any, Final

from core.job_state import Verdict
from defense.config import LARGEST_SEARCHED_STRENGTH
from worker.pipeline.decision import EACH_SOURCE, UPPER_BOUND, number_at

MOST_RAISES: Final = 2
RAISE: Final = 0.5
_HARM: Final = frozenset({UPPER_BOUND, EACH_SOURCE})


def raised_strength(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """Give what the job's strength is to be after this report; None if the verdict stands.

    It stands if the adapter is released, or fails for something that more strength does not mend,
    or there is no more strength to try.
    """
    decision, before = report["decision"], report["perturbation"]
    failed = {check["name"] for check in decision["checks"] if not check["passed"]}
    raised, strength = before.get("raised", []), number_at(before, "strength")
    mendable = decision["verdict"] == Verdict.BLOCKED and failed and failed <= _HARM
    if not mendable or before.get("chosen") != "measured" or strength is None:
        return None
    if len(raised) >= MOST_RAISES or strength >= LARGEST_SEARCHED_STRENGTH:
        return None
    bound = next(check["value"] for check in decision["checks"] if check["name"] == UPPER_BOUND)
    tried = {"strength": strength, UPPER_BOUND: bound, "failed": sorted(failed)}
    return {
        **before,
        "strength": min(strength + RAISE, LARGEST_SEARCHED_STRENGTH),
        "raised": [*raised, tried],
    }
