"""Random draws kept apart from everyone else's."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def isolated_draws(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from a stream that starts at `seed`, and put the caller's stream back afterwards.

    Two blocks with the same seed see the same dropout masks, and neither shifts the masks of the
    training around them.
    """
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
