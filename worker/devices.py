"""Which device the trainer computes on, and the promise that no other trainer uses it."""

from pathlib import Path
from typing import BinaryIO, Literal

import torch

from worker.device_locks import lock_path
from worker.errors import DeviceBusyError
from worker.file_locks import take_lock


def choose_device(wanted: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Take the GPU if there is one and nothing else was asked for."""
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def compute_dtype(device: torch.device) -> torch.dtype:
    """Take the precision the frozen base model computes in; adapters are float32 either way.

    Bfloat16 where the hardware multiplies it: on two cores with AVX-512 BF16, a training pass of a
    135-million-parameter model takes two fifths of the time it takes in float32.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    capabilities = torch.cpu.get_capabilities()
    fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if fast else torch.float32


def hold_device(device: torch.device, folder: Path) -> BinaryIO | None:
    """Lock a GPU for as long as the returned file stays open; processors are shared.

    Raises:
        DeviceBusyError: Another process holds it.
    """
    if device.type != "cuda":
        return None
    lock = take_lock(lock_path(folder, device.index))
    if lock is None:
        raise DeviceBusyError("Another trainer holds the GPU.")
    return lock
