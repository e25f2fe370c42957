import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from defense.errors import InvalidConfigError
from defense.training.adapter_files import read_adapter, read_tensors, write_adapter
from defense.training.lora import LoraSettings, adapter_state, attach_adapter
from tests.tiny_models import TARGET_MODULES, tiny_llama

SETTINGS = LoraSettings(rank=2, alpha=3, target_modules=TARGET_MODULES, dropout=0.25)
TOKENS = torch.tensor([[5, 9, 11, 7]])


def random_weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    fresh = adapter_state(attach_adapter(tiny_llama(), SETTINGS))
    return {name: torch.randn(t.shape, generator=generator) for name, t in fresh.items()}


def test_an_adapter_survives_the_disk(tmp_path: Path) -> None:
    weights = random_weights()

    write_adapter(tmp_path, weights, SETTINGS, "organisation/base")
    adapter = read_adapter(tmp_path)

    assert adapter.settings == LoraSettings(2, 3, tuple(sorted(TARGET_MODULES)), 0.25)
    assert all(torch.equal(adapter.tensors[name], weights[name]) for name in weights)


def test_plain_peft_loads_the_folder_onto_the_base_model(tmp_path: Path) -> None:
    weights = random_weights()
    write_adapter(tmp_path, weights, SETTINGS, "organisation/base")
    ours = attach_adapter(tiny_llama(), SETTINGS, read_adapter(tmp_path)).eval()

    theirs = PeftModel.from_pretrained(tiny_llama(), tmp_path).eval()

    with torch.no_grad():
        assert torch.equal(ours(input_ids=TOKENS).logits, theirs(input_ids=TOKENS).logits)


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    weights = random_weights()
    backwards = dict(reversed(weights.items()))

    write_adapter(tmp_path / "first", weights, SETTINGS, "base")
    write_adapter(tmp_path / "second", backwards, SETTINGS, "base")

    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_the_config_names_the_public_base_model(tmp_path: Path) -> None:
    write_adapter(tmp_path, random_weights(), SETTINGS, "organisation/base")

    config = json.loads((tmp_path / "adapter_config.json").read_text())

    assert config["base_model_name_or_path"] == "organisation/base"
    assert config["target_modules"] == sorted(TARGET_MODULES)


@pytest.mark.parametrize("option", ["use_dora", "use_rslora"])
def test_a_variant_that_is_not_plain_lora_is_refused(tmp_path: Path, option: str) -> None:
    write_adapter(tmp_path, random_weights(), SETTINGS, "base")
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {option: True}))

    with pytest.raises(InvalidConfigError, match=option):
        read_adapter(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"peft_type": "IA3"}', "{"])
def test_a_folder_that_is_no_adapter_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "adapter_config.json").write_text(text)

    with pytest.raises(InvalidConfigError):
        read_adapter(tmp_path)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"not tensors")

    with pytest.raises(InvalidConfigError, match="safetensors"):
        read_tensors(path)
    with pytest.raises(InvalidConfigError):
        read_tensors(tmp_path / "absent.safetensors")
