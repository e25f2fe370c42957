"""Options of Panacea. Imports no torch, so that the gateway can validate a request.

Symbols of the paper (arXiv:2501.18100) are named once, in the descriptions.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from defense.config import DefenseConfig


class PanaceaConfig(DefenseConfig):
    """Fine-tuning against harmful rows, ended by a perturbation of the trained adapter."""

    type: Literal["panacea"] = Field(default="panacea", description="Selects Panacea.")
    perturbation_radius: float = Field(
        default=0.5,
        gt=0,
        le=100,
        description="Length (L2 norm over all adapter weights, rho) of the probe used in training "
        "and of every step the final perturbation is built in. Depends on rank, alpha and targets.",
    )
    regularization_strength: float = Field(
        default=0.001,
        ge=0,
        le=10,
        description="Weight (lambda) of the term that keeps the harmful loss steep in training. "
        "0 skips the harmful passes altogether and leaves only the final perturbation.",
    )
    harmful_batch_size: int = Field(
        default=4,
        ge=1,
        le=256,
        description="Rows of the defender's harmful set read at each guarded optimizer step.",
    )
    guard_interval: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Guard the first optimizer step and every k-th after it with k times the "
        "weight; 1 is as published.",
    )
    harmful_gradient_cap: float = Field(
        default=1.0,
        gt=0,
        le=100,
        description="Largest norm of the harmful part of an update, as a multiple of the norm of "
        "the user's gradient.",
    )
    perturbation_direction: Literal["harmful_ascent", "refusal_descent", "both"] = Field(
        default="refusal_descent",
        description="Which way the final perturbation goes: up the loss of harmful answers (as "
        "published), down the loss of the operator's refusals, or both.",
    )
    final_perturbation: Literal["full_set", "last_batch"] = Field(
        default="full_set",
        description="`full_set` computes the final perturbation at the trained weights; "
        "`last_batch` reuses the last training probe, as published (harmful_ascent only).",
    )
    harmful_ascent_weight: float = Field(
        default=0.3,
        ge=0,
        le=10,
        description="Share of the harmful ascent, relative to the refusal descent, in `both`.",
    )
    perturbation_steps: int = Field(
        default=5,
        ge=1,
        le=64,
        description="Steps of length perturbation_radius the final perturbation is built in; the "
        "gradient is computed anew before each.",
    )
    reference_rows: int = Field(
        default=24,
        ge=1,
        le=4096,
        description="Refusals that a step of the final perturbation reads, other ones each "
        "step; of the user's and of benign rows it reads half as many. harmful_ascent always reads "
        "the whole harmful set.",
    )
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
    def _check_combinations(self) -> Self:
        strength = self.perturbation_strength
        if isinstance(strength, float) and not 0 <= strength <= 10:  # noqa: PLR2004
            message = "perturbation_strength must be 'auto' or a number from 0 to 10"
            raise ValueError(message)
        if self.final_perturbation == "last_batch":
            if self.perturbation_direction != "harmful_ascent":
                message = "final_perturbation 'last_batch' needs direction 'harmful_ascent'"
                raise ValueError(message)
            if self.regularization_strength == 0:
                message = (
                    "final_perturbation 'last_batch' reuses a training probe, and there is "
                    "none with regularization_strength 0"
                )
                raise ValueError(message)
        return self
