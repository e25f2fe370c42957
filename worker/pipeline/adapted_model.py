"""The warm base model with an adapter on it, and without it again afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

from peft import PeftModel

from core.job_spec import JobSpec
from core.model_registry import ModelEntry
from defense.protocols import Tensors
from defense.training.adapter_files import read_adapter
from defense.training.lora import (
    Adapter,
    LoraSettings,
    attach_adapter,
    detach_adapter,
    load_adapter_state,
)
from worker.base_models import LoadedModel, locate_folder


def lora_settings(spec: JobSpec) -> LoraSettings:
    """Take the adapter's shape from the job."""
    wanted = spec.hyperparameters
    return LoraSettings(wanted.lora_rank, wanted.lora_alpha, wanted.target_modules)


def aligned_adapter(entry: ModelEntry) -> Adapter | None:
    """Read the adapter that jobs on this model continue, if it has one."""
    if entry.aligned_adapter is None:
        return None
    return read_adapter(locate_folder(entry.aligned_adapter.source))


@contextmanager
def adapted_model(
    loaded: LoadedModel,
    settings: LoraSettings,
    *,
    aligned: Adapter | None = None,
    tensors: Tensors | None = None,
    seed: int = 0,
) -> Iterator[PeftModel]:
    """Put an adapter on the base model while the block runs.

    Args:
        loaded: The base model.
        settings: The adapter's shape.
        aligned: Begin with this adapter, placed inside the shape.
        tensors: Begin with exactly these weights.
        seed: Of the weights that neither of the two decides.
    """
    model = attach_adapter(loaded.model, settings, aligned, seed=seed)
    try:
        if tensors is not None:
            load_adapter_state(model, tensors)
        model.eval()
        yield model
    finally:
        detach_adapter(model)
