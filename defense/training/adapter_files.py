"""Adapters and perturbations on disk: PEFT folders and safetensors files, nothing pickled.

The same weights give the same bytes: keys are sorted and no time or path is written.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from defense.errors import InvalidConfigError
from defense.protocols import Tensors
from defense.training.lora import Adapter, LoraSettings

CONFIG_NAME = "adapter_config.json"
WEIGHTS_NAME = "adapter_model.safetensors"

# What PEFT can store and this package does not compute with; each must be absent or off.
_UNSUPPORTED = (
    "use_dora",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "layers_to_transform",
    "fan_in_fan_out",
)


def write_adapter(
    path: Path, tensors: Tensors, settings: LoraSettings, base_model_name: str
) -> None:
    """Write a folder that `peft.PeftModel.from_pretrained` loads onto the base model.

    Args:
        path: The folder; made if absent.
        tensors: Weights by PEFT's names; stored as float32.
        settings: Their shape.
        base_model_name: Public name of the base model, for whoever loads the folder.
    """
    path.mkdir(parents=True, exist_ok=True)
    config = settings.peft_config().to_dict()  # type: ignore[no-untyped-call]
    config["target_modules"] = sorted(settings.target_modules)
    config["base_model_name_or_path"] = base_model_name
    config["inference_mode"] = True
    text = json.dumps(config, indent=2, sort_keys=True, default=str)
    (path / CONFIG_NAME).write_text(text + "\n", encoding="utf-8")
    write_tensors(path / WEIGHTS_NAME, tensors)


def read_adapter(path: Path) -> Adapter:
    """Read a PEFT folder of a plain LoRA adapter.

    Raises:
        InvalidConfigError: The folder is incomplete or uses a variant of LoRA that is not
            supported here.
    """
    config = _read_config(path / CONFIG_NAME)
    targets = config.get("target_modules")
    if config.get("peft_type") != "LORA" or not isinstance(targets, list):
        raise InvalidConfigError(str(path), "must be a LoRA adapter with a list of target modules")
    for option in _UNSUPPORTED:
        if config.get(option):
            raise InvalidConfigError(str(path), f"uses {option}, which is not supported")
    settings = LoraSettings(
        rank=int(str(config["r"])),
        alpha=float(str(config["lora_alpha"])),
        target_modules=tuple(sorted(str(target) for target in targets)),
        dropout=float(str(config.get("lora_dropout", 0.0))),
    )
    return Adapter(settings, read_tensors(path / WEIGHTS_NAME))


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Write tensors to one safetensors file, as float32."""
    stored = {
        name: tensors[name].detach().to("cpu", torch.float32).contiguous()
        for name in sorted(tensors)
    }
    save_file(stored, path, metadata={"format": "pt"})


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, as float32.

    Raises:
        InvalidConfigError: There is no such file, or it is not a safetensors file.
    """
    try:
        return {name: tensor.float() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise InvalidConfigError(str(path), f"cannot be read as safetensors: {error}") from error


def _read_config(path: Path) -> Mapping[str, object]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidConfigError(str(path), f"cannot be read as JSON: {error}") from error
    if not isinstance(config, dict):
        raise InvalidConfigError(str(path), "must hold a JSON object")
    return config
