"""Conversations to tokens, with the loss on the assistant's turns only.

A chat template renders whole conversations, not single turns. The part that belongs to an
assistant turn is therefore found by rendering twice: up to the turn, with the generation prompt,
and with the turn. Each part is tokenized on its own, so that training sees the very tokens that
generation will be asked to continue.

Only the template may write special tokens. Where a turn's own text spells one, such as
`<|im_end|>`, it is marked before rendering and tokenized as the plain text it is.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from transformers import PreTrainedTokenizerBase

from defense.errors import InvalidConfigError
from defense.protocols import IGNORED, EncodedRow, Message, Row

_NONCHARACTER: Final = "\ufdd0"  # Unicode keeps it out of text that is interchanged


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
    words = _TemplateWords(row.messages, tokenizer)
    marked = Row(words.mark(row.messages), row.tools)
    for segment in _segments(marked, tokenizer, chat_template):
        ids = words.tokenize(segment.text)
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
    words = _TemplateWords(messages, tokenizer)
    marked = words.mark(messages)
    return words.tokenize(_render(marked, (), tokenizer, chat_template, generation_prompt=True))


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


class _TemplateWords:
    """The special tokens of a tokenizer, which a template may write and a turn may not.

    Args:
        messages: The turns that will be marked; the mark is chosen so that none holds it.
        tokenizer: Whose special tokens count. Added tokens that are not special, such as the
            `<think>` of some models, are text that a turn may hold.
    """

    def __init__(self, messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._mark = _NONCHARACTER
        while any(self._mark in (message.content or "") for message in messages):
            self._mark += _NONCHARACTER
        special = {
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.special and len(token.content) > 1
        }
        longest_first = sorted(special, key=lambda token: (-len(token), token))
        self._words = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def mark(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Break every special token that the turns' texts spell, so that rendering hides none."""
        return tuple(
            message if message.content is None else replace(message, content=self._broken(text))
            for message in messages
            for text in (message.content or "",)
        )

    def tokenize(self, text: str) -> list[int]:
        """Turn rendered text into tokens; what was marked becomes plain text again."""
        if self._mark not in text:
            return self._ids(text, plain=False)
        ids: list[int] = []
        done = 0
        for word in self._words.finditer(text):
            ids += self._stretch(text[done : word.start()]) + self._ids(word[0], plain=False)
            done = word.end()
        return ids + self._stretch(text[done:])

    def _stretch(self, text: str) -> list[int]:
        plain = text.replace(self._mark, "")
        return self._ids(plain, plain=True) if plain else []

    def _broken(self, text: str) -> str:
        # Breaking one word can uncover another that overlapped it.
        while self._words.search(text):
            text = self._words.sub(lambda word: word[0][0] + self._mark + word[0][1:], text)
        return text

    def _ids(self, text: str, *, plain: bool) -> list[int]:
        encoded = self._tokenizer(
            text, add_special_tokens=False, split_special_tokens=plain, verbose=False
        )
        return list(encoded["input_ids"])
