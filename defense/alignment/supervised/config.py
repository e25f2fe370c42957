"""Options of supervised alignment. Imports no torch."""

from pydantic import Field

from defense.config import DefenseConfig


class AlignmentConfig(DefenseConfig):
    """How the aligned adapter of a base model is trained."""

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
