"""Options of the alignment merge. Imports no torch."""

from typing import Literal

from pydantic import Field

from defense.config import SearchedStrength

# Three passes without gradients, which take about as long as one with them.
_PASSES = 1


class AlignmentMergeConfig(SearchedStrength):
    """A merge of the trained adapter with the one it began as, layer by layer."""

    type: Literal["alignment_merge"] = Field(
        default="alignment_merge", description="Selects the alignment merge."
    )
    perturbation_strength: float | Literal["auto"] = Field(
        default=1.0,
        description="Multiple (kappa, 0 to 10) of the perturbation that is added to the trained "
        "adapter; 1 is the merge itself. `auto` takes the smallest that meets the two limits "
        "below on held-out rows, and so leaves more of what those rows do not show.",
    )
    alignment_weight: float = Field(
        default=2.0,
        gt=0,
        le=1_000_000,
        description="What a change of a layer's output on the operator's rows counts, relative to "
        "one on the user's (mu). Small values keep the trained adapter, large ones the initial.",
    )
    refusal_rows: int = Field(
        default=16,
        ge=1,
        le=4096,
        description="Refusals that the initial adapter's outputs are read on.",
    )
    benign_rows: int = Field(
        default=40,
        ge=0,
        le=4096,
        description="Benign rows, harmless look-alikes among them, that they are read on too.",
    )
    task_rows: int = Field(
        default=40,
        ge=1,
        le=4096,
        description="Rows of the user's that the trained adapter's outputs are read on.",
    )
    answer_weight: float = Field(
        default=5.0,
        ge=1,
        le=1000,
        description="What a token counts that predicts one of an answer's; a prompt's others count "
        "1.",
    )
    damping_ratio: float = Field(
        default=1e-3,
        gt=0,
        le=1,
        description="Share of a Gram matrix's mean diagonal that is added to its diagonal. It "
        "decides what becomes of inputs that neither side has: a mean of both adapters.",
    )

    def rows_read(self) -> int:
        """As many as take that long forward and back."""
        return _PASSES * (self.refusal_rows + self.benign_rows + self.task_rows)
