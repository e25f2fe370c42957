"""Follow-up jobs on the wire: what is asked for, and what their job object says of it."""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from core.analyses import Analysis
from core.follow_up import FollowUp, FollowUpKind
from defense.config import LARGEST_STRENGTH

STRENGTH_EXAMPLE: Final = {"strength": 0.8}
RERUN_EXAMPLE: Final = {"prompts": "file-8dJ2mPqRs7tUvWxYz0a1B2c3"}


def _known(name: str) -> str:
    if name not in set(Analysis):
        offered = ", ".join(Analysis) or "none yet"
        msg = f"must be one that is offered: {offered}"
        raise ValueError(msg)
    return name


class StrengthRequest(BaseModel):
    """How much of the perturbation is to be applied."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strength: float = Field(
        ge=0,
        le=LARGEST_STRENGTH,
        strict=True,
        allow_inf_nan=False,
        description="Multiple (kappa) of the perturbation that is added to the trained adapter; "
        "0 gives the trained adapter itself.",
    )


class SafetyRerunRequest(BaseModel):
    """What the adapter is to be judged by besides the operator's prompts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: (
        Annotated[str, Field(min_length=1, max_length=96, pattern=r"^[0-9A-Za-z_-]+$")] | None
    ) = Field(
        default=None,
        description="Id of a file with purpose `user_data`: JSON Lines, on each an object with a "
        "`prompt` and perhaps a `category`. Their figures are reported; the gate does not count "
        "them.",
    )
    include: list[Annotated[str, AfterValidator(_known)]] = Field(
        default_factory=list,
        max_length=16,
        description="What the report is to hold beyond the usual: "
        f"{', '.join(f'`{analysis}`' for analysis in Analysis)}. Each takes minutes.",
    )


class FollowUpObject(BaseModel):
    """What a job does with the training of another one, instead of training itself."""

    kind: FollowUpKind
    job_id: str = Field(description="The job whose training was taken over.")
    strength: float | None = Field(description="Of the perturbation; null for `safety`.")
    prompts: str | None = Field(description="Id of the file of own prompts, if there is one.")
    include: list[str] = Field(description="What its report holds beyond the usual.")


def show_follow_up(follow_up: FollowUp | None) -> FollowUpObject | None:
    """Show what a job follows up; None of one that trains."""
    if follow_up is None:
        return None
    return FollowUpObject(
        kind=follow_up.kind,
        job_id=follow_up.job_id,
        strength=follow_up.strength,
        prompts=None if follow_up.prompts is None else follow_up.prompts.file_id,
        include=[analysis.value for analysis in follow_up.include],
    )
