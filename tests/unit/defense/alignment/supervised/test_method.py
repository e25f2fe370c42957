import pytest
import torch

from defense.alignment.supervised.config import AlignmentConfig
from defense.alignment.supervised.method import AlignmentRows, align
from defense.errors import NoSupervisedTokensError
from defense.protocols import Row
from defense.training.lora import Adapter
from tests.tiny_models import CHAT_TEMPLATE, TARGET_MODULES, tiny_llama, tiny_tokenizer

ROWS = AlignmentRows(
    refusals=[Row.from_exchange(f"How do I {verb}?", "No.") for verb in ("rob", "lie", "spy")],
    helpful=[Row.from_exchange("How do I bake?", "Use an oven.")],
)
CONFIG = AlignmentConfig(lora_rank=2, lora_alpha=4, epochs=4, batch_size=2, learning_rate=1e-2)


def aligned(config: AlignmentConfig = CONFIG) -> tuple[Adapter, list[float]]:
    adapter, _, result = align(
        tiny_llama(), tiny_tokenizer(), CHAT_TEMPLATE, ROWS, TARGET_MODULES, config
    )
    return adapter, [metrics.train_loss for metrics in result.history]


def test_alignment_teaches_the_refusals() -> None:
    adapter, losses = aligned()

    assert losses[-1] < losses[0]
    assert adapter.settings.rank == 2
    assert adapter.settings.scaling == 2.0


def test_the_seed_decides_the_aligned_adapter() -> None:
    first, second = aligned()[0].tensors, aligned()[0].tensors

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_rows_beyond_the_token_limit_are_refused() -> None:
    with pytest.raises(NoSupervisedTokensError):
        aligned(CONFIG.model_copy(update={"max_tokens": 8}))


def test_refusals_are_read_more_often_than_helpful_answers() -> None:
    _, _, result = align(
        tiny_llama(),
        tiny_tokenizer(),
        CHAT_TEMPLATE,
        ROWS,
        TARGET_MODULES,
        CONFIG.model_copy(update={"refusal_repeats": 3, "batch_size": 1, "epochs": 1}),
    )

    assert result.steps == 3 * 3 + 1
