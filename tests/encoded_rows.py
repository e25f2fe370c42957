"""Encoded rows for the tiny model, shared by the defense tests."""

from defense.protocols import IGNORED, EncodedRow, Row
from defense.training.chat import encode_row
from defense.training.lora import LoraSettings
from tests.tiny_models import CHAT_TEMPLATE, TARGET_MODULES, tiny_tokenizer

SETTINGS = LoraSettings(rank=2, alpha=4, target_modules=TARGET_MODULES)
TOKENIZER = tiny_tokenizer()


def rows(answer: str, count: int = 6) -> list[EncodedRow]:
    """Different questions with one answer."""
    return [
        encode_row(
            Row.from_exchange("Ask " + "abcdefghij"[: index + 1], answer),
            TOKENIZER,
            CHAT_TEMPLATE,
            200,
        )
        for index in range(count)
    ]


def unsupervised_row() -> EncodedRow:
    """A row that lost its answer to the token limit."""
    return EncodedRow((5, 6, 7), (IGNORED,) * 3)
