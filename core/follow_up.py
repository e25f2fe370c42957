"""What a follow-up job does with the training of another job; nothing is trained again."""

from enum import StrEnum
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from core.analyses import Analysis
from core.stages import ArtifactName
from defense.config import LARGEST_STRENGTH

# What is left of a job's training once it is over, and what a follow-up job takes over. None of it
# holds rows: the user's file is read again.
TAKEN_OVER: Final = (
    ArtifactName.SCREENING,
    ArtifactName.ATTRIBUTION,
    ArtifactName.BASE_MODEL,
    ArtifactName.TRAINED_ADAPTER,
    ArtifactName.TRAINING,
    ArtifactName.METRICS,
    ArtifactName.PERTURBATION,
    ArtifactName.STRENGTH,
)


class FollowUpKind(StrEnum):
    """What a follow-up job is for."""

    STRENGTH = "strength"  # another strength of the same perturbation
    SAFETY = "safety"  # the same adapter, judged again


class PromptsFile(BaseModel):
    """A file of the project's own prompts, with as many as were read in it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file_id: str
    sha256: str
    prompts: int = Field(ge=1)


class FollowUp(BaseModel):
    """Which job's training is taken over, and what is done with it.

    `strength` belongs to the kind of that name, `prompts` and `include` to the other.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FollowUpKind
    job_id: str
    strength: float | None = Field(default=None, ge=0, le=LARGEST_STRENGTH, allow_inf_nan=False)
    prompts: PromptsFile | None = None
    include: tuple[Analysis, ...] = ()

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if (self.strength is None) == (self.kind is FollowUpKind.STRENGTH):
            msg = "a strength, and only that, is what the kind `strength` is about"
            raise ValueError(msg)
        if self.kind is FollowUpKind.STRENGTH and (self.prompts or self.include):
            msg = "prompts and analyses belong to the kind `safety`"
            raise ValueError(msg)
        return self

    def sentence(self) -> str:
        """Say what the job does, for its history."""
        if self.kind is FollowUpKind.STRENGTH:
            return f"It applies the perturbation of {self.job_id} at strength {self.strength:g}."
        return f"It judges the adapter of {self.job_id} again."

    def strength_record(self, trained: dict[str, Any]) -> dict[str, Any]:
        """Describe the perturbation under this job's strength.

        Args:
            trained: The description that the training's own job has left.
        """
        if self.strength is None:
            return trained
        of_the_choice = {
            "strength", "chosen", "points", "meets_limits", "reason", "judged_prompts", "raised"
        }  # fmt: skip
        kept = {name: value for name, value in trained.items() if name not in of_the_choice}
        return {**kept, "strength": self.strength, "chosen": "set after training", "points": []}
