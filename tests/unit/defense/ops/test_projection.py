import pytest
import torch

from defense.ops.projection import project_out_conflicts
from defense.ops.tensors import inner


def vector(*values: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor(values, dtype=torch.float64)}


def test_a_direction_that_lowers_the_protected_loss_is_left_alone() -> None:
    projection = project_out_conflicts(vector(1, 1), {"task": vector(-1, 0)})

    assert projection.tensors["w"].tolist() == [1, 1]
    assert not projection.fired


def test_only_the_part_that_would_raise_the_protected_loss_is_removed() -> None:
    projection = project_out_conflicts(vector(3, 4), {"task": vector(2, 0)})

    assert projection.tensors["w"].tolist() == [0, 4]
    assert projection.removed == {"task": 1.5}
    assert projection.cosines["task"] == pytest.approx(0.6)
    assert projection.fired


def test_two_conflicts_are_removed_together() -> None:
    direction = vector(1, 1, 1)
    protected = {"task": vector(1, 0, 0), "benign": vector(1, 1, 0)}

    projection = project_out_conflicts(direction, protected)

    assert projection.tensors["w"].tolist() == pytest.approx([0, 0, 1], abs=1e-9)


def test_the_result_is_the_nearest_direction_without_conflict() -> None:
    # Removing one conflict and then the other would overshoot: <v, benign> = -0.5 < 0 afterwards.
    direction = vector(0, 1)
    protected = {"task": vector(1, 1), "benign": vector(-1, 1)}

    projection = project_out_conflicts(direction, protected)

    for gradient in protected.values():
        assert inner(projection.tensors, gradient) <= 1e-9
    assert projection.tensors["w"].tolist() == pytest.approx([0, 0], abs=1e-6)


def test_a_zero_gradient_protects_nothing() -> None:
    projection = project_out_conflicts(vector(1, 2), {"task": vector(0, 0)})

    assert projection.tensors["w"].tolist() == [1, 2]
    assert projection.removed == {"task": 0.0}
