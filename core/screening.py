"""What is done about a user's rows that the moderation classifier flags, before any training."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class ScreeningPolicy(StrEnum):
    """From the strictest to none at all. Whatever it is, the gate judges what comes out."""

    BLOCK = "block"
    QUARANTINE = "quarantine"
    WARN = "warn"
    OFF = "off"


class Screening(BaseModel):
    """How the rows of a job are screened."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: ScreeningPolicy = Field(
        description="What becomes of flagged rows: `block` fails the job, `quarantine` trains on "
        "the others, `warn` trains on all, `off` does not look."
    )


DEFAULT_SCREENING = Screening(policy=ScreeningPolicy.WARN)
