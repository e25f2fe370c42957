"""Scores of rows against differences of losses: no gradient is computed for the comparison."""

import numpy as np
import pytest
import torch

from defense.evaluation.row_attribution import harmful_direction, row_alignments
from defense.ops.tensors import added, global_norm
from defense.protocols import IGNORED, EncodedRow
from defense.training.loss import AdapterLoss
from tests.numerics.layered_model import VOCABULARY, layered_model

STEP = 1e-5


def drawn(count: int, seed: int) -> list[EncodedRow]:
    draw = np.random.default_rng(seed)
    rows = []
    for length in draw.integers(3, 7, count):
        ids = tuple(draw.integers(1, VOCABULARY, length).tolist())
        rows.append(EncodedRow(ids, (IGNORED, *ids[1:])))
    return rows


@pytest.fixture
def loss() -> AdapterLoss:
    return AdapterLoss(layered_model().eval(), pad_token_id=0)


def slope(loss: AdapterLoss, row: EncodedRow, direction: dict[str, torch.Tensor]) -> float:
    """How fast the row's loss rises along a direction, by the loss at two points."""
    forth, back = (
        loss.mean_loss([row], added(loss.weights(), direction, step)) for step in (STEP, -STEP)
    )
    return (forth - back) / (2 * STEP)


def length(loss: AdapterLoss, row: EncodedRow) -> float:
    """The gradient's, by the loss along every single weight."""
    total = 0.0
    for name, weight in loss.weights().items():
        for place in range(weight.numel()):
            unit = {key: torch.zeros_like(each) for key, each in loss.weights().items()}
            unit[name].view(-1)[place] = 1
            total += slope(loss, row, unit) ** 2
    return float(np.sqrt(total))


def test_a_score_is_the_slope_of_the_rows_loss_over_the_length_of_its_gradient(
    loss: AdapterLoss,
) -> None:
    direction = harmful_direction(loss, drawn(5, 1), drawn(9, 2))
    rows = drawn(12, 3)  # in more than one pass

    scores = row_alignments(loss, rows, direction)

    assert global_norm(direction) == pytest.approx(1)
    for row, score in list(zip(rows, scores, strict=True))[::4]:
        expected = slope(loss, row, direction) / length(loss, row)
        assert score == pytest.approx(expected, rel=1e-6)


def scaled_to_one(loss: AdapterLoss, row: EncodedRow) -> dict[str, torch.Tensor]:
    size = length(loss, row)
    gradients = loss.gradients([row]).gradients
    return {name: value / size for name, value in gradients.items()}


def test_the_direction_is_the_difference_of_mean_unit_gradients(loss: AdapterLoss) -> None:
    sets = drawn(3, 1), drawn(2, 2)

    direction = harmful_direction(loss, *sets)

    means = [
        {
            name: torch.stack([scaled_to_one(loss, row)[name] for row in rows]).mean(0)
            for name in loss.weights()
        }
        for rows in sets
    ]
    wanted = {name: means[0][name] - means[1][name] for name in direction}
    size = global_norm(wanted)
    for name, tensor in direction.items():
        torch.testing.assert_close(tensor, wanted[name] / size, rtol=1e-6, atol=1e-9)
