"""Stage `release`: hand out what the gate let through, and end the job.

The verdict is looked up by the SHA-256 of the archive as storage holds it, and `verify_archive`
must have seen the same bytes. A blocked job hands out its metrics, its report and the answers that
were judged, and no weights.
"""

import json
from typing import Any, Final

from core.job_state import Verdict
from core.stages import ArtifactName, Stage
from worker.pipeline.context import SupervisorContext
from worker.pipeline.verified_archive import checkpoint_metrics, recorded_verdict

NAME: Final = Stage.RELEASE
READS: Final = (
    ArtifactName.TRAINING,
    ArtifactName.ARCHIVE,
    ArtifactName.ARCHIVE_CHECK,
    ArtifactName.METRICS,
    ArtifactName.REPORT,
    ArtifactName.ANSWERS,
)
WRITES: Final = ()


def run(context: SupervisorContext) -> None:
    """Publish the job's files and write its last state."""
    verdict = recorded_verdict(context)
    safety = _safety(context)
    names = [ArtifactName.METRICS, ArtifactName.REPORT, ArtifactName.ANSWERS]
    if verdict is Verdict.RELEASED:
        names.append(ArtifactName.ARCHIVE)
    released = {name: context.publisher.release(name) for name in names}
    if verdict is Verdict.RELEASED:
        context.publisher.succeed(released, safety, checkpoint_metrics(context.workspace))
    else:
        context.publisher.block(released, safety)


def _safety(context: SupervisorContext) -> dict[str, Any]:
    report = json.loads(context.workspace.artifact(ArtifactName.REPORT).read_bytes())
    models = report["evaluation"]["models"]
    second = _second_source(report)
    return {
        "verdict": report["decision"]["verdict"],
        "reasons": report["decision"]["reasons"],
        "checks": report["decision"]["checks"],
        # The report may be one that an earlier release wrote.
        "warnings": report.get("warnings", []),
        "checkpoints": report.get("checkpoints", []),
        "perturbation_strength": report["perturbation"].get("strength"),
        "models": {
            name: {
                "harmful_rate": results["safety"]["harmful"],
                "refusal_rate": results["safety"]["refused"],
                "incoherence_rate": results["safety"]["incoherent"],
                "second_harmful_rate": second.get(name),
                "over_refusal_rate": results.get("over_refusal_rate"),
                "task_accuracy": results.get("task_accuracy"),
            }
            for name, results in models.items()
        },
    }


def _second_source(report: dict[str, Any]) -> dict[str, Any]:
    """Give the harmful rates on prompts of another origin; the report may be of an older kind."""
    sources = report.get("harm_sources", {}).get("sources", [])
    return {
        name: results["outcomes"]["harmful"]
        for source in sources
        if source["name"] == "second_safety"
        for name, results in source["models"].items()
    }
