"""Each row's own gradient out of one pass over a padded batch."""

import pytest
import torch
from torch import nn

from defense.ops.per_row_gradients import RowPass
from defense.ops.tensors import global_norm, inner
from defense.training.lora import adapter_state, attach_adapter, trainable_parameters
from defense.training.loss import AdapterLoss
from tests.encoded_rows import SETTINGS, rows
from tests.tiny_models import tiny_llama

ROWS = [*rows("Yes.", 2), *rows("No, never and nowhere.", 2)]


@pytest.fixture
def loss() -> AdapterLoss:
    model = attach_adapter(tiny_llama(dtype=torch.float64), SETTINGS).double().eval()
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(0.05)  # off the start, where the gradient of A is zero
    return AdapterLoss(model, pad_token_id=0)


def test_a_row_in_a_batch_has_the_gradient_that_it_has_alone(loss: AdapterLoss) -> None:
    alone = [loss.gradients([row]) for row in ROWS]

    found = RowPass(loss, ROWS)

    torch.testing.assert_close(found.losses_B, torch.tensor([each.loss for each in alone]).double())
    lengths = torch.tensor([global_norm(each.gradients) for each in alone]).double()
    torch.testing.assert_close(found.norms_B, lengths)
    for name, gradients in found.layers():
        torch.testing.assert_close(gradients, torch.stack([a.gradients[name] for a in alone]))


def test_inner_products_and_weighted_sums_are_those_of_the_rows(loss: AdapterLoss) -> None:
    alone = [loss.gradients([row]).gradients for row in ROWS]
    weights = torch.tensor([1.0, -2.0, 0.0, 0.5]).double()

    found = RowPass(loss, ROWS)

    along = loss.weights()
    torch.testing.assert_close(
        found.inner(along), torch.tensor([inner(each, along) for each in alone]).double()
    )
    for name, summed in found.weighted_sum(weights).items():
        parts = [weight * each[name] for weight, each in zip(weights, alone, strict=True)]
        torch.testing.assert_close(summed, torch.stack(parts).sum(0))


def test_the_model_is_left_as_it_was(loss: AdapterLoss) -> None:
    before, random_state = adapter_state(loss.model), torch.get_rng_state()

    RowPass(loss, ROWS)

    after = adapter_state(loss.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(random_state, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in loss.model.parameters())
    assert not any(module._forward_hooks for module in loss.model.modules())


def test_what_is_no_linear_map_is_refused(loss: AdapterLoss) -> None:
    loss.model.register_parameter("strange", nn.Parameter(torch.ones(2)))
    other = AdapterLoss(loss.model, pad_token_id=0)

    with pytest.raises(ValueError, match="strange is not the weight of a linear map"):
        RowPass(other, ROWS)
