"""Shares of a perturbation by layer, worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from defense.evaluation.layer_affinity import LayerAffinity, layer_affinity

LAYER = "base_model.model.model.layers.{}.self_attn.q_proj"
SCALING = 2.0


def module(name: str, a: tuple[float, float], b: tuple[float, float]) -> dict[str, Tensor]:
    """The weights of one module of rank 1, with two inputs and two outputs."""
    return {
        f"{name}.lora_A.weight": torch.tensor([a]),
        f"{name}.lora_B.weight": torch.tensor([[b[0]], [b[1]]]),
    }


TRAINED = {
    **module(LAYER.format(1), (0, 1), (3, 0)),
    **module(LAYER.format(0), (1, 0), (1, 0)),
}
MOVE = {
    **module(LAYER.format(1), (2, 0), (0, 0)),
    **module(LAYER.format(0), (0, 1), (0, 2)),
}


def affinity(strength: float) -> LayerAffinity:
    found = layer_affinity(TRAINED, MOVE, strength, SCALING)
    assert found is not None
    return found


def test_shares_of_two_layers_of_rank_one() -> None:
    found = affinity(1.0)

    # Squared norms of eps: 1 + 4 and 4.
    assert [share.layer for share in found.layers] == [0, 1]
    assert [share.perturbation_share for share in found.layers] == pytest.approx([5 / 9, 4 / 9])
    assert found.perturbation_norm == pytest.approx(3)
    # Layer 0: 2 ((1, 2)^T (1, 1) - (1, 0)^T (1, 0)) = 2 ((0, 1), (2, 2)), 4 x 9.
    # Layer 1: 2 (3, 0)^T (2, 0) = 2 ((6, 0), (0, 0)), 4 x 36.
    assert [share.weight_change_share for share in found.layers] == pytest.approx([0.2, 0.8])
    assert found.weight_change_norm == pytest.approx(math.sqrt(180))
    assert [share.adapter_weights for share in found.layers] == [4, 4]


def test_the_change_is_that_of_the_delivered_strength() -> None:
    found = affinity(0.5)

    # Layer 0: 2 ((1, 1)^T (1, 0.5) - (1, 0)^T (1, 0)) = 2 ((0, 0.5), (1, 0.5)), 4 x 1.5.
    # Layer 1: 2 (3, 0)^T (1, 0), 4 x 9.
    assert [share.weight_change_share for share in found.layers] == pytest.approx([1 / 7, 6 / 7])
    assert found.perturbation_norm == pytest.approx(3)
    assert found.strength == 0.5


def test_a_perturbation_that_is_not_applied_is_measured_at_strength_one() -> None:
    assert affinity(0.0) == affinity(1.0)


def test_modules_of_a_layer_count_together_and_those_outside_come_last() -> None:
    other = LAYER.format(1).replace("q_proj", "v_proj")
    head = "base_model.model.lm_head"
    trained = {**TRAINED, **module(other, (0, 0), (0, 0)), **module(head, (0, 0), (0, 0))}
    move = {**MOVE, **module(other, (0, 1), (0, 0)), **module(head, (1, 1), (2, 0))}

    found = layer_affinity(trained, move, 1.0, SCALING)

    assert found is not None
    assert [share.layer for share in found.layers] == [0, 1, None]
    # Squared norms of eps: 5, 4 + 1 and 2 + 4.
    assert [16 * share.perturbation_share for share in found.layers] == pytest.approx([5, 5, 6])


@pytest.mark.parametrize("move", [{}, {name: 0 * tensor for name, tensor in MOVE.items()}])
def test_nothing_is_shared_out_of_no_move(move: dict[str, Tensor]) -> None:
    assert layer_affinity(TRAINED, move, 1.0, SCALING) is None


def test_a_move_that_changes_no_weight_has_no_share_of_the_change() -> None:
    trained = module(LAYER.format(0), (1, 0), (0, 0))
    move = module(LAYER.format(0), (1, 1), (0, 0))  # A moves, and B is zero

    found = layer_affinity(trained, move, 1.0, SCALING)

    assert found is not None
    assert (found.weight_change_norm, found.layers[0].weight_change_share) == (0.0, 0.0)
    assert found.layers[0].perturbation_share == 1.0


def test_a_perturbation_of_another_adapter_is_refused() -> None:
    with pytest.raises(ValueError, match="only one of the two"):
        layer_affinity(TRAINED, module(LAYER.format(0), (1, 0), (1, 0)), 1.0, SCALING)
