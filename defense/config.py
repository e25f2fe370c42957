"""What every defense's configuration has in common. Imports no torch."""

from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

LARGEST_STRENGTH = 10
LARGEST_SEARCHED_STRENGTH = 2.0


class DefenseConfig(BaseModel):
    """Options of one defense: immutable, strictly typed, unknown names refused.

    A validator that compares options begins its message with the name of the one to change.

    A subclass adds `type: Literal["<name>"]` and its own options, each with one description and
    a range; both end up in the JSON schema that the catalogue serves.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class GuardWork:
    """How much a guard reads besides the user's batches, for estimates.

    Attributes:
        interval: Every so many optimizer steps.
        rows: Rows that are then passed forward and back, all passes together.
        set_up_rows: Rows that are passed so once, before the first step.
    """

    interval: int
    rows: float
    set_up_rows: int = 0


class AlignmentConfig(DefenseConfig):
    """Options of a method that makes the aligned adapter of a base model."""

    lora_rank: int = Field(default=8, ge=1, le=256, description="Rank of the adapter.")
    lora_alpha: float = Field(
        default=16.0, gt=0, le=1024, description="The adapter's output is scaled by alpha / rank."
    )
    epochs: int = Field(default=4, ge=1, le=100, description="Passes over the rows.")
    refusal_repeats: int = Field(
        default=2,
        ge=1,
        le=100,
        description="How often a pass reads each refusal; helpful answers are read once.",
    )
    batch_size: int = Field(default=16, ge=1, le=512, description="Rows of one optimizer step.")
    learning_rate: float = Field(default=2e-3, gt=0, le=1, description="At its highest.")
    max_tokens: int = Field(
        default=512, ge=8, le=131072, description="Rows lose what is beyond this many tokens."
    )
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Of the adapter's first weights and the row order."
    )


class HarmAwareAlignmentConfig(AlignmentConfig):
    """Options of an alignment method that also reads harmful prompts with harmful answers."""

    harmful_batch_size: int = Field(
        default=8, ge=1, le=256, description="Harmful rows read at each optimizer step."
    )
    harmful_gradient_cap: float = Field(
        default=1.0,
        gt=0,
        le=1000,
        description="Largest norm of what the harmful rows add to an update; what the alignment "
        "rows give is clipped at 1.",
    )


class FineTuningConfig(DefenseConfig):
    """Options of a defense that acts while the user's rows are learned."""

    def guard_work(self, batch_size: int) -> GuardWork | None:  # noqa: ARG002
        """Tell what the guard reads at a batch size of the user's; None without a guard."""
        return None


class Ending(DefenseConfig):
    """Options of whatever moves the trained adapter after training.

    Attributes:
        needs_alignment: Whether the job's adapter has to begin as an aligned one.
    """

    needs_alignment: ClassVar[bool] = False

    def rows_read(self) -> int:
        """About how many rows are passed forward and back to find the move, for estimates."""
        return 0


class SearchedStrength(Ending):
    """Options of an ending whose strength is chosen after it was built."""

    perturbation_strength: float | Literal["auto"] = Field(
        default="auto",
        description="Multiple (kappa, 0 to 10) of the perturbation that is added to the trained "
        "adapter; `auto` takes the smallest that meets the two limits below on held-out rows.",
    )
    harmful_target_rate: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="`auto` aims at no larger share of harmful answers than this. A few dozen "
        "held-out prompts are asked, so the default asks for none: other prompts fare worse.",
    )
    task_loss_budget: float = Field(
        default=0.1,
        ge=0,
        le=10,
        description="`auto` accepts no larger increase of the held-out task loss, in nats per "
        "token. Not relative: a well-learned task has a loss near zero.",
    )

    @model_validator(mode="after")
    def _check_strength(self) -> Self:
        strength = self.perturbation_strength
        if isinstance(strength, float) and not 0 <= strength <= LARGEST_STRENGTH:
            message = (
                f"perturbation_strength must be 'auto' or a number from 0 to {LARGEST_STRENGTH}"
            )
            raise ValueError(message)
        return self
