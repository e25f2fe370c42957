"""Turning the hyperparameters that a client asks for into those that a job runs with.

A job shows what it runs with, and that can be asked for again as it stands.
"""

import math

from core.errors import InvalidRequestError, RequestErrorCode
from core.job_spec import (
    AUTO_BATCH_SIZE,
    AUTO_BETA,
    AUTO_DPO_MULTIPLIER,
    AUTO_EPOCHS,
    DpoHyperparameters,
    Hyperparameters,
    RequestedDpoHyperparameters,
    RequestedHyperparameters,
)
from core.model_registry import ModelEntry


def resolve_hyperparameters(
    requested: RequestedHyperparameters,
    entry: ModelEntry,
    *,
    usable_rows: int,
    max_sequence_tokens: int,
) -> Hyperparameters:
    """Turn every "auto" into a number.

    Raises:
        InvalidRequestError: Values that contradict each other or the model; `param` is relative
            to the hyperparameters.
    """
    beta: float | None = None
    usual = 1.0
    if isinstance(requested, RequestedDpoHyperparameters):
        beta, usual = requested.beta or AUTO_BETA, AUTO_DPO_MULTIPLIER
    learning_rate, multiplier = _learning_rate(requested, entry, usual)
    rank = _rank(requested, entry)
    resolved = Hyperparameters(
        n_epochs=requested.n_epochs or AUTO_EPOCHS,
        batch_size=requested.batch_size or max(1, min(AUTO_BATCH_SIZE, usable_rows)),
        learning_rate_multiplier=multiplier,
        learning_rate=learning_rate,
        lora_rank=rank,
        lora_alpha=requested.lora_alpha or entry.lora.alpha * rank / entry.lora.rank,
        target_modules=_target_modules(requested, entry),
        max_steps=requested.max_steps,
        max_sequence_tokens=_sequence_tokens(requested, entry, max_sequence_tokens),
    )
    return resolved if beta is None else DpoHyperparameters(**resolved.model_dump(), beta=beta)


def _learning_rate(
    requested: RequestedHyperparameters, entry: ModelEntry, usual: float
) -> tuple[float, float]:
    learning_rate, multiplier = requested.learning_rate, requested.learning_rate_multiplier
    if learning_rate is None:
        multiplier = multiplier or usual
        return entry.learning_rate * multiplier, multiplier
    if multiplier is None:
        return learning_rate, learning_rate / entry.learning_rate
    if not math.isclose(learning_rate, entry.learning_rate * multiplier):
        raise InvalidRequestError(
            "learning_rate and learning_rate_multiplier say different things.",
            param="learning_rate",
            code=RequestErrorCode.INVALID_HYPERPARAMETERS,
            hint="Leave one of them out.",
        )
    return learning_rate, multiplier


def _sequence_tokens(requested: RequestedHyperparameters, entry: ModelEntry, most: int) -> int:
    tokens = min(entry.max_sequence_tokens, most)
    if requested.max_sequence_tokens not in (None, tokens):
        raise InvalidRequestError(
            f"max_sequence_tokens is {tokens} for this model on this server.",
            param="max_sequence_tokens",
            code=RequestErrorCode.INVALID_HYPERPARAMETERS,
            hint="Leave it out.",
        )
    return tokens


def _rank(requested: RequestedHyperparameters, entry: ModelEntry) -> int:
    rank = requested.lora_rank or entry.lora.rank
    aligned = entry.aligned_adapter
    if aligned is not None and rank < aligned.rank:
        raise InvalidRequestError(
            f"lora_rank must be at least {aligned.rank}, the rank of the adapter that the job "
            "continues.",
            param="lora_rank",
            code=RequestErrorCode.INVALID_HYPERPARAMETERS,
        )
    return rank


def _target_modules(requested: RequestedHyperparameters, entry: ModelEntry) -> tuple[str, ...]:
    if requested.target_modules is None:
        return entry.lora.target_modules
    wanted = set(requested.target_modules)
    needed = set(entry.aligned_adapter.target_modules) if entry.aligned_adapter else set()
    available = entry.lora.available_modules
    if not wanted <= set(available):
        raise InvalidRequestError(
            f"target_modules must be among {', '.join(available)}.",
            param="target_modules",
            code=RequestErrorCode.INVALID_HYPERPARAMETERS,
        )
    if not needed <= wanted:
        raise InvalidRequestError(
            "target_modules must hold those of the adapter that the job continues: "
            f"{', '.join(name for name in available if name in needed)}.",
            param="target_modules",
            code=RequestErrorCode.INVALID_HYPERPARAMETERS,
        )
    return tuple(name for name in available if name in wanted)
