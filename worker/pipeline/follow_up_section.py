"""What the report of a follow-up job says beyond that of others."""

from typing import Any

from core.stages import ArtifactName
from worker.pipeline.context import SupervisorContext


def follow_up_section(context: SupervisorContext) -> dict[str, Any]:
    """Give the report's keys about the origin and the project's own prompts; none for other jobs.

    Nothing under `prompts_evaluation` and nothing that was analysed counts for the gate.
    """
    follow_up = context.spec.follow_up
    if follow_up is None:
        return {}
    section: dict[str, Any] = {"follow_up": follow_up.model_dump(mode="json")}
    if follow_up.prompts is not None:
        section["prompts_evaluation"] = context.workspace.read_json(ArtifactName.PROMPTS_EVALUATION)
    if follow_up.include:
        section |= context.workspace.read_json(ArtifactName.ANALYSES)
    return section
