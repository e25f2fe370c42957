"""Base models from a folder, with a model small enough to save in a test."""

from pathlib import Path

import pytest
import torch

from core.model_registry import LoraDefaults, ModelEntry, Source, SourceKind
from tests.tiny_models import CHAT_TEMPLATE, TARGET_MODULES, tiny_llama, tiny_tokenizer
from worker.base_models import BaseModelError, BaseModels

CPU = torch.device("cpu")


def entry(source: str) -> ModelEntry:
    return ModelEntry(
        id="tiny",
        title="Tiny",
        owned_by="tests",
        created=1,
        licence="Apache-2.0",
        source=Source(SourceKind(source.partition(":")[0]), source.partition(":")[2]),
        chat_template=CHAT_TEMPLATE,
        learning_rate=1e-3,
        max_sequence_tokens=64,
        lora=LoraDefaults(
            rank=2, alpha=4, target_modules=TARGET_MODULES, available_modules=TARGET_MODULES
        ),
    )


@pytest.fixture
def tiny(tmp_path: Path) -> ModelEntry:
    tiny_llama().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    return entry(f"path:{tmp_path / 'model'}")


def test_the_warm_model_is_loaded_once(tiny: ModelEntry, tmp_path: Path) -> None:
    models = BaseModels(tmp_path / "cache", CPU)

    assert models.warm(tiny).model is models.warm(tiny).model
    assert models.fresh(tiny).model is not models.warm(tiny).model


def test_a_loaded_model_learns_nothing_by_itself(tiny: ModelEntry, tmp_path: Path) -> None:
    loaded = BaseModels(tmp_path / "cache", CPU).warm(tiny)

    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.pad_token_id == 0


def test_the_fingerprint_changes_with_the_weights(tiny: ModelEntry, tmp_path: Path) -> None:
    before = BaseModels(tmp_path / "cache", CPU).prepare(tiny).weights_sha256
    tiny_llama(seed=1).save_pretrained(tmp_path / "model")

    after = BaseModels(tmp_path / "cache", CPU).prepare(tiny).weights_sha256

    assert before != after


@pytest.mark.parametrize(
    "source", ["path:/nowhere/at/all", "package:no_such_package/file.gguf", "package:json/none"]
)
def test_a_model_that_is_not_there_says_so(source: str, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError):
        BaseModels(tmp_path, CPU).prepare(entry(source))


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "pytorch_model.bin").write_bytes(b"pickle")

    with pytest.raises(BaseModelError):
        BaseModels(tmp_path, CPU).prepare(entry(f"path:{tmp_path / 'model'}"))
