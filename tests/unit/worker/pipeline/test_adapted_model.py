"""A broken aligned adapter is the operator's matter: the job says so and shows no path."""

import json
from pathlib import Path

import pytest

from core.model_registry import AlignedAdapter, ModelEntry, Source
from defense.training.adapter_files import CONFIG_NAME, write_adapter
from defense.training.lora import LoraSettings, adapter_state, attach_adapter
from tests.tiny_models import TARGET_MODULES, tiny_llama
from tests.unit.worker.pipeline.builders import ALPHA, RANK, tiny_entry
from worker.base_models import BaseModelError
from worker.pipeline.adapted_model import aligned_adapter
from worker.trainer import describe_failure

SETTINGS = LoraSettings(RANK, ALPHA, TARGET_MODULES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sound adapter."""
    made = tmp_path / "canary"
    tensors = adapter_state(attach_adapter(tiny_llama(), SETTINGS))
    write_adapter(made, tensors, SETTINGS, "tiny")
    return made


@pytest.fixture
def entry(tmp_path: Path, folder: Path) -> ModelEntry:
    source = Source.parse(f"path:{folder}")
    aligned = AlignedAdapter(source=source, rank=RANK, target_modules=TARGET_MODULES)
    return tiny_entry(tmp_path / "model").model_copy(update={"aligned_adapter": aligned})


def set_option(folder: Path, name: str, value: object) -> None:
    path = folder / CONFIG_NAME
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}), encoding="utf-8")


def test_a_sound_adapter_is_read_in_its_shape(entry: ModelEntry) -> None:
    adapter = aligned_adapter(entry)

    assert adapter is not None
    assert (adapter.settings.rank, adapter.settings.alpha) == (RANK, ALPHA)


@pytest.mark.parametrize(
    ("name", "value"), [("peft_type", "LOHA"), ("use_dora", True), ("target_modules", "all-linear")]
)
def test_an_adapter_of_another_kind_is_refused(
    folder: Path, entry: ModelEntry, name: str, value: object
) -> None:
    set_option(folder, name, value)

    with pytest.raises(BaseModelError) as raised:
        aligned_adapter(entry)

    failed = describe_failure(raised.value)
    assert (failed.code, failed.retryable) == ("base_model_unavailable", False)
    assert failed.param is None
    assert "canary" not in failed.model_dump_json()


@pytest.mark.parametrize("name", [CONFIG_NAME, "adapter_model.safetensors"])
def test_an_adapter_cut_in_half_is_refused(folder: Path, entry: ModelEntry, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: len(content) // 2])

    with pytest.raises(BaseModelError) as raised:
        aligned_adapter(entry)

    assert "canary" not in describe_failure(raised.value).model_dump_json()


def test_a_model_without_an_aligned_adapter_has_none(entry: ModelEntry) -> None:
    assert aligned_adapter(entry.model_copy(update={"aligned_adapter": None})) is None
