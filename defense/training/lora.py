"""LoRA adapters: put on a model, continued from an aligned one, read, written.

The weights of an adapter are a dictionary keyed by PEFT's own names
(`base_model.model.<module>.lora_A.weight`), always float32 on disk and in training, whatever the
base model's precision: in bfloat16 about half of a small update is lost to rounding.

Shapes: R rank, I a module's inputs, O its outputs; `lora_a_RI`, `lora_b_OR`. The adapter adds
`scaling * lora_b_OR @ lora_a_RI` to the module's weight, with `scaling = alpha / rank`.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from defense.errors import InvalidConfigError
from defense.protocols import Tensors

ADAPTER_NAME = "default"


@dataclass(frozen=True)
class LoraSettings:
    """Shape of an adapter.

    Attributes:
        rank: Inner dimension.
        alpha: The adapter's output is multiplied by `alpha / rank`.
        target_modules: Names of the linear layers that get an adapter, such as `q_proj`.
        dropout: Probability of dropping an input of the adapter in training.
    """

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    dropout: float = 0.0

    @property
    def scaling(self) -> float:
        """Factor on the adapter's output."""
        return self.alpha / self.rank

    def peft_config(self) -> LoraConfig:
        """The same as PEFT states it."""
        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]  # PEFT multiplies by any number
            target_modules=sorted(self.target_modules),
            lora_dropout=self.dropout,
            bias="none",
            task_type="CAUSAL_LM",
        )


@dataclass(frozen=True)
class Adapter:
    """An adapter's shape and weights."""

    settings: LoraSettings
    tensors: Tensors


def attach_adapter(
    model: PreTrainedModel, settings: LoraSettings, aligned: Adapter | None = None, *, seed: int = 0
) -> PeftModel:
    """Put a trainable adapter on a model.

    Args:
        model: The base model. It is wrapped in place; `detach_adapter` gives it back.
        settings: Shape of the adapter.
        aligned: An adapter to continue. It is placed inside the new shape so that the model's
            outputs are exactly those with `aligned` alone: further rows of A are drawn at random,
            further columns of B are zero, and B absorbs a change of scaling.
        seed: Of the random rows.

    Returns:
        The model with its adapter in float32, ready to train.

    Raises:
        InvalidConfigError: A target is no module of the model, or `aligned` does not fit inside
            `settings`.
    """
    if aligned is not None:
        _check_it_fits(aligned.settings, settings)
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # PEFT asks transformers for a property under its old name; nobody here can change that.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        torch.manual_seed(seed)
        try:
            wrapped = get_peft_model(model, settings.peft_config(), adapter_name=ADAPTER_NAME)
        except ValueError as error:
            raise InvalidConfigError("target_modules", str(error)) from error
    if not isinstance(wrapped, PeftModel):  # get_peft_model also serves mixed adapters
        raise TypeError(type(wrapped).__name__)
    if aligned is not None:
        load_adapter_state(wrapped, place_inside(aligned, settings, adapter_state(wrapped)))
    return wrapped


def detach_adapter(model: PeftModel) -> nn.Module:
    """Give back the base model as it was before `attach_adapter`."""
    base: nn.Module = model.unload()
    if hasattr(base, "peft_config"):
        del base.peft_config
    return base


def place_inside(aligned: Adapter, settings: LoraSettings, fresh: Tensors) -> dict[str, Tensor]:
    """Weights of the larger shape that compute what `aligned` computes.

    Args:
        aligned: The adapter to place.
        settings: The larger shape.
        fresh: Newly drawn weights of that shape; not modified.

    Returns:
        One tensor per name of `fresh`.

    Raises:
        InvalidConfigError: `aligned` has weights the larger shape lacks.
    """
    unknown = sorted(set(aligned.tensors) - set(fresh))
    if unknown:
        raise InvalidConfigError("aligned_adapter", f"has weights the model lacks: {unknown[0]}")
    factor = aligned.settings.scaling / settings.scaling
    placed: dict[str, Tensor] = {}
    for name, weight in fresh.items():
        placed[name] = weight.clone()
        is_b = ".lora_B." in name
        if is_b:
            placed[name].zero_()
        if name not in aligned.tensors:
            continue
        source = aligned.tensors[name].to(weight.dtype)
        rank = aligned.settings.rank
        target = placed[name][:, :rank] if is_b else placed[name][:rank]
        if target.shape != source.shape:
            raise InvalidConfigError(
                "aligned_adapter", f"{name} has shape {tuple(source.shape)}, not of this model"
            )
        target.copy_(source * factor if is_b and factor != 1 else source)
    return placed


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The adapter's parameters themselves, by PEFT's names, in a fixed order."""
    return {
        portable_name(name): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }


def portable_name(parameter_name: str) -> str:
    """A parameter's name as PEFT stores it: without the adapter's name."""
    return parameter_name.replace(f".{ADAPTER_NAME}.", ".")


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the adapter's weights on the CPU."""
    return {
        name: parameter.detach().to("cpu", copy=True).contiguous()
        for name, parameter in trainable_parameters(model).items()
    }


@torch.no_grad()
def load_adapter_state(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Overwrite the adapter's weights.

    Raises:
        InvalidConfigError: Names or shapes differ from the model's adapter.
    """
    parameters = trainable_parameters(model)
    if set(parameters) != set(tensors):
        different = sorted(set(parameters) ^ set(tensors))
        raise InvalidConfigError("adapter", f"does not match the model's at {different[0]}")
    for name, parameter in parameters.items():
        if parameter.shape != tensors[name].shape:
            raise InvalidConfigError(
                "adapter", f"{name} has shape {tuple(tensors[name].shape)}, not of this model"
            )
        parameter.copy_(tensors[name])


def _check_it_fits(aligned: LoraSettings, settings: LoraSettings) -> None:
    if settings.rank < aligned.rank:
        raise InvalidConfigError(
            "lora_rank", f"must be at least {aligned.rank}, the rank of the aligned adapter"
        )
    missing = sorted(set(aligned.target_modules) - set(settings.target_modules))
    if missing:
        raise InvalidConfigError(
            "target_modules", f"must include those of the aligned adapter: {', '.join(missing)}"
        )
