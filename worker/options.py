"""The part of the settings that the trainer process may see: no address, no key."""

from datetime import timedelta
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict

from core.settings import Settings


class TrainerOptions(BaseModel):
    """What a trainer needs to know, handed over in its first message."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    home: Path
    base_model_cache: Path
    models_file: Path | None
    device: Literal["auto", "cpu", "cuda"]
    max_sequence_tokens: int
    max_row_bytes: int
    moderation_backend: Literal["embedded", "sequence_classifier"]
    moderation_model: str | None
    alignment_rows: str
    harmful_rows: str
    benign_rows: str
    safety_evaluation_prompts: str
    second_safety_evaluation_prompts: str
    over_refusal_prompts: str
    attribution_rows: int
    evaluation_prompt_count: int
    second_evaluation_prompt_count: int
    evaluation_answer_tokens: int
    training_state_interval: timedelta
    log_level: Literal["debug", "info", "warning", "error"]
    log_format: Literal["json", "console"]

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the trainer's part of the settings."""
        return cls(**{name: getattr(settings, name) for name in cls.model_fields})
