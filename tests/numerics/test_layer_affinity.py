"""Shares of the change of weights against the matrices themselves, in float64."""

import numpy as np
import pytest
import torch

from defense.evaluation.layer_affinity import layer_affinity
from defense.ops.layers import layer_of
from defense.ops.low_rank import squared_product_norm
from defense.protocols import Tensors
from defense.training.lora import adapter_state
from tests.numerics.layered_model import SETTINGS, layered_model

MODULES = [
    f"base_model.model.layers.{layer}.{part}" for layer in range(2) for part in ("self_attn", "mlp")
]


def drawn(like: Tensors, size: float, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: size * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
        for name, tensor in like.items()
    }


def squared_changes(trained: Tensors, move: Tensors, strength: float) -> dict[int | None, float]:
    """By layer, from the whole matrices before and after."""
    found: dict[int | None, float] = {}
    for module in MODULES:
        a, b, move_a, move_b = (
            tensors[f"{module}.lora_{side}.weight"].numpy()
            for tensors in (trained, move)
            for side in "AB"
        )
        before = SETTINGS.scaling * b @ a
        after = SETTINGS.scaling * (b + strength * move_b) @ (a + strength * move_a)
        layer = layer_of(f"{module}.")
        found[layer] = found.get(layer, 0.0) + float(np.square(after - before).sum())
    return found


@pytest.mark.parametrize("strength", [0.3, 2.0])
@pytest.mark.parametrize("size", [1e-5, 1e-2, 1.0])
def test_shares_are_those_of_the_whole_matrices(strength: float, size: float) -> None:
    trained = adapter_state(layered_model())
    move = drawn(trained, size)

    found = layer_affinity(trained, move, strength, SETTINGS.scaling)

    expected = squared_changes(trained, move, strength)
    whole = sum(expected.values())
    assert found is not None
    # The difference of the whole matrices is what loses digits when the move is small.
    close = 1e-12 if size > 1e-5 else 1e-9
    assert found.weight_change_norm == pytest.approx(np.sqrt(whole), rel=close)
    for share in found.layers:
        assert share.weight_change_share == pytest.approx(expected[share.layer] / whole, rel=close)


def test_the_share_of_the_change_is_the_same_however_the_adapter_writes_its_product() -> None:
    trained = adapter_state(layered_model())
    move = drawn(trained, 0.1)

    def rewritten(tensors: Tensors) -> dict[str, torch.Tensor]:
        """Layer 1 with A a hundred times as large and B a hundredth."""
        factors = {True: 100.0, False: 0.01}
        return {
            name: tensor * factors["lora_A" in name] if layer_of(name) == 1 else tensor
            for name, tensor in tensors.items()
        }

    first = layer_affinity(trained, move, 0.7, SETTINGS.scaling)
    second = layer_affinity(rewritten(trained), rewritten(move), 0.7, SETTINGS.scaling)

    assert first is not None
    assert second is not None
    for one, other in zip(first.layers, second.layers, strict=True):
        assert other.weight_change_share == pytest.approx(one.weight_change_share, rel=1e-12)
    assert second.layers[1].perturbation_share > 0.99 > first.layers[1].perturbation_share


def test_the_norm_of_a_product_is_numpys() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((9, 4), (4, 7))
    )

    expected = np.linalg.norm(left.numpy() @ right.numpy()) ** 2
    assert squared_product_norm(left, right) == pytest.approx(float(expected), rel=1e-13)
