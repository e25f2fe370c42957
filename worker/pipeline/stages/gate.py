"""Stage `gate`: decide by the policy, and close the archive around the evaluated bytes.

Reads the evaluation and the evaluated package as storage holds them. Writes the archive (those
bytes, the report with the verdict, the model card) and records the verdict on its SHA-256. What
is released later is these bytes or nothing. The report on the final adapter also tells what became
of the job's checkpoints, which took the same way before it.
"""

import hashlib
import shutil
from pathlib import Path
from typing import Any, Final

from core.safety_report import NOT_PROMISED, REPORT_VERSION
from core.stages import ArtifactName, Stage
from worker.archive import extract_archive, write_archive
from worker.pipeline.context import SupervisorContext
from worker.pipeline.cost import cost_of
from worker.pipeline.decision import Decision, decide, describe_policy
from worker.pipeline.follow_up_section import follow_up_section
from worker.pipeline.report import guard_settings, model_card, report_bytes
from worker.pipeline.usefulness import usefulness_warnings

NAME: Final = Stage.GATE
READS: Final = (
    ArtifactName.BASE_MODEL,
    ArtifactName.SCREENING,
    ArtifactName.ATTRIBUTION,
    ArtifactName.TRAINING,
    ArtifactName.STRENGTH,
    ArtifactName.PACKAGE,
    ArtifactName.LAYER_AFFINITY,
    ArtifactName.EVALUATION,
)
READS_IF_THERE: Final = (ArtifactName.PROMPTS_EVALUATION, ArtifactName.ANALYSES)
WRITES: Final = (ArtifactName.ARCHIVE, ArtifactName.REPORT)

WEIGHTS: Final = "adapter_model.safetensors"
PARTS: Final = frozenset({"harm_sources", "second_judge", "losses"})


def run(context: SupervisorContext) -> None:
    """Write the archive and the report, and record the verdict."""
    workspace = context.workspace
    folder = workspace.root / "judged_package"
    package = extract_archive(workspace.artifact(ArtifactName.PACKAGE), folder)
    weights = next(path for path in package if path.name == WEIGHTS)
    adapter_sha256 = _sha256(weights)
    evaluation = workspace.read_json(ArtifactName.EVALUATION)
    decision = decide(context.policy, evaluation, adapter_sha256)
    report = _report(context, evaluation, decision)
    for warning in report["warnings"]:
        context.reporter.event(warning["message"], level="warn", data={"warning": warning["code"]})
    report["adapter"] = {
        "file": WEIGHTS,
        "sha256": adapter_sha256,
        "bytes": weights.stat().st_size,
    }
    content = report_bytes(report)
    workspace.output(ArtifactName.REPORT).write_bytes(content)
    files: dict[str, bytes | Path] = {path.name: path for path in package}
    files["report.json"] = content
    files["README.md"] = model_card(report).encode()
    archive = workspace.output(ArtifactName.ARCHIVE)
    write_archive(archive, files)
    shutil.rmtree(folder)
    context.publisher.decide(
        _sha256(archive),
        decision.verdict,
        {**describe_policy(context.policy), "adapter_sha256": adapter_sha256},
        decision.reasons,
    )


def _report(
    context: SupervisorContext, evaluation: dict[str, Any], decision: Decision
) -> dict[str, Any]:
    workspace = context.workspace
    screening = workspace.read_json(ArtifactName.SCREENING)
    training = workspace.read_json(ArtifactName.TRAINING)
    return {
        "version": REPORT_VERSION,
        "job_id": context.job_id,
        "checkpoint_step": workspace.snapshot_step,
        "parent_model": None if context.spec.parent is None else context.spec.parent.model,
        "initial_adapter": _initial_adapter(context),
        "base_model": workspace.read_json(ArtifactName.BASE_MODEL),
        "method": context.spec.method,
        "defense": context.spec.defense,
        "hyperparameters": context.spec.hyperparameters.model_dump(mode="json"),
        "seed": context.spec.seed,
        "screening": {
            "rows": screening["training"]["rows"],
            "flagged_rows": len(screening["training"]["flagged_lines"]),
            "categories": screening["training"]["categories"],
            "flagged": screening["training"].get("flagged", []),
            "dropped_rows": len(screening.get("dropped_lines", [])),
            "policy": screening["policy"],
        },
        "attribution": workspace.read_json(ArtifactName.ATTRIBUTION),
        "training": training,
        "checkpoints": [
            workspace.at_snapshot(step).read_json(ArtifactName.CHECKPOINT)
            for step in training.get("snapshot_steps", ())
        ],
        **_measured(context, training, evaluation),
        "layer_affinity": workspace.read_json(ArtifactName.LAYER_AFFINITY)["layer_affinity"],
        "policy": describe_policy(context.policy),
        "decision": decision.to_json(),
        "warnings": [warning.to_json() for warning in usefulness_warnings(evaluation)],
        **follow_up_section(context),
        "not_promised": list(NOT_PROMISED),
    }


def _measured(
    context: SupervisorContext, training: dict[str, Any], evaluation: dict[str, Any]
) -> dict[str, Any]:
    """Give what was measured and how; what was found by source or judge are parts of their own."""
    strength = context.workspace.read_json(ArtifactName.STRENGTH)
    return {
        "perturbation": strength,
        "evaluation": {name: evaluation[name] for name in evaluation.keys() - PARTS},
        **{name: evaluation[name] for name in PARTS},
        "guard": guard_settings(context.spec.job_defense(), strength),
        "decoding": {
            "method": "greedy",
            "answer_tokens": evaluation["answer_tokens"],
            "prompt_tokens": context.spec.hyperparameters.max_sequence_tokens,
        },
        "cost": cost_of(training, strength),
    }


def _initial_adapter(context: SupervisorContext) -> dict[str, str] | None:
    initial = context.spec.initial_adapter
    return None if initial is None else initial.model_dump()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
