"""Conversations to tokens, with the loss on the assistant's turns only.

A chat template renders whole conversations, not single turns. The part that belongs to an
assistant turn is therefore found by rendering twice: up to the turn, with the generation prompt,
and with the turn. Each part is tokenized on its own, so that training sees the very tokens that
generation will be asked to continue.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from defense.errors import InvalidConfigError
from defense.protocols import IGNORED, EncodedRow, Message, Row


@dataclass(frozen=True)
class _Segment:
    text: str
    supervised: bool


def encode_row(
    row: Row, tokenizer: PreTrainedTokenizerBase, chat_template: str, max_tokens: int
) -> EncodedRow:
    """Tokenize a row; the loss counts assistant turns of weight 1 that follow another turn.

    Args:
        row: The conversation.
        tokenizer: The base model's.
        chat_template: Jinja source of the template.
        max_tokens: Longer rows lose their end. A row that loses all its supervised tokens is
            returned with none; whoever learns from rows skips those.

    Returns:
        The row's tokens and labels.

    Raises:
        InvalidConfigError: The template rewrites earlier turns when later ones are added, so the
            extent of a turn cannot be found.
    """
    input_ids: list[int] = []
    labels: list[int] = []
    for segment in _segments(row, tokenizer, chat_template):
        ids = _tokenize(segment.text, tokenizer)
        input_ids += ids
        labels += ids if segment.supervised else [IGNORED] * len(ids)
        if len(input_ids) >= max_tokens:
            break
    labels[:1] = [IGNORED] * len(labels[:1])
    return EncodedRow(tuple(input_ids[:max_tokens]), tuple(labels[:max_tokens]))


def encode_prompt(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, chat_template: str
) -> list[int]:
    """Tokens of a conversation that the assistant is to continue."""
    text = _render(messages, (), tokenizer, chat_template, generation_prompt=True)
    return _tokenize(text, tokenizer)


def padding_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token to pad with; its value never matters, since padding is masked.

    Raises:
        InvalidConfigError: The tokenizer has neither a padding nor an end token.
    """
    token = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    if not isinstance(token, int):
        raise InvalidConfigError("tokenizer", "needs a padding or an end-of-sequence token")
    return token


def _segments(
    row: Row, tokenizer: PreTrainedTokenizerBase, chat_template: str
) -> Iterator[_Segment]:
    done = ""
    for index, message in enumerate(row.messages):
        # A first turn answers nothing, and templates cannot render an empty beginning.
        if message.role != "assistant" or index == 0:
            continue
        before, through = (
            _render(row.messages[:end], row.tools, tokenizer, chat_template, generation_prompt=p)
            for end, p in ((index, True), (index + 1, False))
        )
        if not (before.startswith(done) and through.startswith(before)):
            raise InvalidConfigError(
                "chat_template",
                "does not render a conversation's beginning the same way once it continues; "
                "use a template that appends turns",
            )
        yield _Segment(before[len(done) :], supervised=False)
        # The white space a template puts after its end-of-turn token belongs to what follows.
        answer = through[len(before) :].rstrip()
        yield _Segment(answer, supervised=message.weight != 0)
        done = before + answer


def _render(
    messages: Sequence[Message],
    tools: Sequence[Mapping[str, object]],
    tokenizer: PreTrainedTokenizerBase,
    chat_template: str,
    *,
    generation_prompt: bool,
) -> str:
    conversation: list[dict[str, Any]] = [
        {**message.extra, "role": message.role, "content": message.content} for message in messages
    ]
    rendered = tokenizer.apply_chat_template(
        conversation,
        tools=[dict(tool) for tool in tools] or None,
        chat_template=chat_template,
        tokenize=False,
        add_generation_prompt=generation_prompt,
    )
    return str(rendered)


def _tokenize(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
