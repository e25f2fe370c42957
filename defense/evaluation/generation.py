"""Greedy answers of a model to many prompts: batched, deterministic, cheap on a CPU.

Prompts are sorted by length and padded on the left, so a batch wastes few places; keys and values
are cached; rows that have ended leave the batch. Shape legend: B rows, T tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedTokenizerBase

from defense.evaluation.errors import EvaluationError
from defense.protocols import Message
from defense.training.chat import encode_prompt, padding_token


@dataclass(frozen=True)
class GenerationSettings:
    """How answers are generated. Decoding is always greedy.

    Attributes:
        max_new_tokens: Longer answers are cut there.
        batch_size: Prompts per batch.
        max_prompt_tokens: Of a longer prompt only the end is read; None reads all.
    """

    max_new_tokens: int = 48
    batch_size: int = 32
    max_prompt_tokens: int | None = None


def generate_answers(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[Message]],
    chat_template: str,
    settings: GenerationSettings | None = None,
) -> list[str]:
    """The greedy answer to each prompt, special tokens removed, in the prompts' order.

    Args:
        model: A causal language model, plain or with an adapter; left as it was.
        tokenizer: The base model's.
        prompts: Conversations that end before the assistant's turn.
        chat_template: Jinja source of the template.
        settings: Defaults if None.

    Raises:
        EvaluationError: The model's numbers are not finite.
    """
    settings = settings or GenerationSettings()
    encoded = [
        encode_prompt(messages, tokenizer, chat_template)[-(settings.max_prompt_tokens or 0) :]
        for messages in prompts
    ]
    order = sorted(range(len(encoded)), key=lambda place: len(encoded[place]), reverse=True)
    ends = end_tokens(model, tokenizer)
    padding = padding_token(tokenizer)
    answers = [""] * len(encoded)
    was_training = model.training
    model.eval()
    try:
        for start in range(0, len(order), settings.batch_size):
            batch = order[start : start + settings.batch_size]
            rows = _generate([encoded[place] for place in batch], model, padding, ends, settings)
            for place, tokens in zip(batch, rows, strict=True):
                answers[place] = str(tokenizer.decode(tokens, skip_special_tokens=True))
    finally:
        model.train(was_training)
    return answers


def end_tokens(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Every token that ends an answer, by the tokenizer and by the model's own settings."""
    configured: Any = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    listed = configured if isinstance(configured, list) else [configured]
    return frozenset(t for t in (*listed, tokenizer.eos_token_id) if isinstance(t, int))


@torch.inference_mode()
def _generate(
    prompts: Sequence[Sequence[int]],
    model: torch.nn.Module,
    padding: int,
    ends: frozenset[int],
    settings: GenerationSettings,
) -> list[list[int]]:
    """Greedy tokens of one batch, end tokens left out."""
    answers: list[list[int]] = [[] for _ in prompts]
    ids_BT, mask_BT = _pad_left(prompts, padding, next(model.parameters()).device)
    positions_BT = (mask_BT.cumsum(1) - 1).clamp(min=0)
    cache = DynamicCache()
    active = list(range(len(prompts)))
    for _ in range(settings.max_new_tokens):
        output = model(
            input_ids=ids_BT,
            attention_mask=mask_BT,
            position_ids=positions_BT,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        next_B = _most_likely(output.logits[:, -1])
        tokens = next_B.tolist()
        going = [row for row, token in enumerate(tokens) if token not in ends]
        for row in going:
            answers[active[row]].append(tokens[row])
        if not going:
            break
        if len(going) < len(active):
            keep = torch.tensor(going, device=next_B.device)
            cache.batch_select_indices(keep)
            mask_BT, positions_BT, next_B = mask_BT[keep], positions_BT[keep], next_B[keep]
            active = [active[row] for row in going]
        ids_BT = next_B[:, None]
        mask_BT = torch.cat([mask_BT, mask_BT.new_ones(len(active), 1)], dim=1)
        positions_BT = positions_BT[:, -1:] + 1
    return answers


def _pad_left(
    prompts: Sequence[Sequence[int]], padding: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    longest = max(map(len, prompts))
    ids_BT = torch.full((len(prompts), longest), padding, dtype=torch.long)
    mask_BT = torch.zeros(len(prompts), longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids_BT[row, longest - len(prompt) :] = torch.tensor(prompt, dtype=torch.long)
        mask_BT[row, longest - len(prompt) :] = 1
    return ids_BT.to(device), mask_BT.to(device)


def _most_likely(logits_BV: Tensor) -> Tensor:
    highest_B, next_B = logits_BV.max(dim=-1)
    if not bool(torch.isfinite(highest_B).all()):
        raise EvaluationError("the model's logits are not finite; its answers mean nothing")
    return next_B
