"""Vectors for the gateway, and what goes wrong before there are any."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from core.errors import InferenceUnavailableError, ModelUnusableError
from core.settings import Settings
from defense.moderation.protocol import ModerationError
from worker.inference.embedder import Embedder


class FakeEncoder:
    def __init__(self, vector: Sequence[float]) -> None:
        self._vector = vector

    def embeddings(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([self._vector] * len(texts))


def embedder(settings: Settings, *vector: float) -> Embedder:
    encoder: Any = FakeEncoder(vector)
    return Embedder(settings, lambda _: encoder)


def test_each_text_gets_a_vector(settings: Settings) -> None:
    embedded = embedder(settings, 0.0, 1.0).embed(("a", "b"))

    assert embedded.vectors == ((0.0, 1.0), (0.0, 1.0))


def test_an_encoder_whose_numbers_are_not_finite_is_unusable(settings: Settings) -> None:
    with pytest.raises(ModelUnusableError):
        embedder(settings, 0.0, float("nan")).embed(("a",))


def test_an_encoder_that_cannot_be_read_makes_the_process_unavailable(settings: Settings) -> None:
    def fail(_: str) -> Any:  # noqa: ANN401
        raise ModerationError("the wheel is not installed")

    with pytest.raises(InferenceUnavailableError, match=r"can't be loaded") as raised:
        Embedder(settings, fail)

    assert "wheel" not in raised.value.message
