"""Batched greedy answers equal those of one prompt at a time."""

from collections.abc import Sequence

import pytest
import torch
from transformers import LlamaForCausalLM

from defense.evaluation.errors import EvaluationError
from defense.evaluation.generation import GenerationSettings, end_tokens, generate_answers
from defense.protocols import Message
from defense.training.chat import encode_prompt
from tests.tiny_models import CHAT_TEMPLATE, tiny_llama, tiny_tokenizer

PROMPTS = [
    (Message("user", text),)
    for text in ("hi", "a much longer question than the others", "why?", "tell me more", "no")
]


def _one_at_a_time(
    model: LlamaForCausalLM, prompts: Sequence[Sequence[Message]], new_tokens: int
) -> list[str]:
    """The plainest greedy loop: no cache, no batch, no padding."""
    tokenizer = tiny_tokenizer()
    answers = []
    for messages in prompts:
        ids = encode_prompt(messages, tokenizer, CHAT_TEMPLATE)
        answer: list[int] = []
        for _ in range(new_tokens):
            with torch.no_grad():
                token = int(model(torch.tensor([ids + answer])).logits[0, -1].argmax())
            if token in end_tokens(model, tokenizer):
                break
            answer.append(token)
        answers.append(str(tokenizer.decode(answer, skip_special_tokens=True)))
    return answers


def _model_that_stops(seed: int) -> LlamaForCausalLM:
    """A random model whose end token is likely enough that answers end at different lengths."""
    model = tiny_llama(seed)
    with torch.no_grad():
        model.lm_head.weight[3] *= 2.5
    return model


@pytest.mark.parametrize("batch_size", [1, 2, 5])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_batches_change_no_answer(seed: int, batch_size: int) -> None:
    model = _model_that_stops(seed)
    settings = GenerationSettings(max_new_tokens=12, batch_size=batch_size)

    answers = generate_answers(model, tiny_tokenizer(), PROMPTS, CHAT_TEMPLATE, settings)

    assert answers == _one_at_a_time(model, PROMPTS, 12)


def test_no_prompts_have_no_answers() -> None:
    assert generate_answers(tiny_llama(), tiny_tokenizer(), [], CHAT_TEMPLATE) == []


def test_the_model_is_left_in_the_mode_it_came_in() -> None:
    model = tiny_llama().train()

    generate_answers(model, tiny_tokenizer(), PROMPTS[:1], CHAT_TEMPLATE)

    assert model.training


def test_logits_that_are_not_finite_are_an_error_and_no_answer() -> None:
    model = tiny_llama()
    with torch.no_grad():
        model.model.norm.weight.fill_(torch.nan)

    with pytest.raises(EvaluationError, match="not finite"):
        generate_answers(model, tiny_tokenizer(), PROMPTS[:1], CHAT_TEMPLATE)


def test_a_long_prompt_keeps_its_end() -> None:
    model = tiny_llama()
    settings = GenerationSettings(max_new_tokens=4, max_prompt_tokens=20)
    same_end = [(Message("user", "x" * 60),), (Message("user", "y" + "x" * 60),)]

    first, second = generate_answers(model, tiny_tokenizer(), same_end, CHAT_TEMPLATE, settings)

    assert first == second
