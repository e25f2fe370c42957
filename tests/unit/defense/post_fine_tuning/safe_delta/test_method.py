from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from defense.errors import NoSupervisedTokensError, NumericalDivergenceError
from defense.ops import adapted_layers as adapted_layers_module
from defense.ops.adapted_layers import adapted_layers
from defense.ops.layer_inputs import input_grams
from defense.ops.tensors import apply_perturbation
from defense.post_fine_tuning.safe_delta.config import SafeDeltaConfig
from defense.post_fine_tuning.safe_delta.method import accept, build_ending, compensated, damped
from defense.protocols import DefenderRows, EncodedRow, Perturbation, Trained
from defense.training.lora import adapter_state
from defense.training.loss import AdapterLoss
from tests.continued_adapters import continued_adapter
from tests.encoded_rows import rows, unsupervised_row

REFUSALS = rows("No, I will not.", 3)


def matrix(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


# Its inverse is [[3, -1], [-1, 2]] / 5: entries of change 1 cost 5/6 and 5/4, 25/24 on average.
HESSIAN = matrix((2, 1), (1, 3))


def safe_delta(
    trained: Trained, refusals: Sequence[EncodedRow] = REFUSALS, **options: object
) -> Perturbation:
    config = SafeDeltaConfig.model_validate(options)
    return build_ending(config, DefenderRows(refusals, (), ()), trained, seed=0)


def delivered(trained: Trained, safety_budget: float) -> dict[str, Tensor]:
    move = safe_delta(trained, safety_budget=safety_budget)
    return apply_perturbation(adapter_state(trained.model), move.tensors, 1.0)


def from_a_fresh_adapter() -> Trained:
    trained = continued_adapter()
    initial = {n: t * (".lora_A." in n) for n, t in trained.initial.items()}
    return replace(trained, initial=initial)


@pytest.mark.parametrize(
    ("budget", "accepted"),
    [(0.79, [False, False]), (0.81, [True, False]), (1.9, [True, False]), (2.1, [True, True])],
)
def test_features_are_accepted_until_the_budget_is_spent(
    budget: float, accepted: list[bool]
) -> None:
    # Shares of the average: 0.8 and 1.2, two together.
    assert accept(matrix((1, 1)), HESSIAN, budget).tolist() == accepted


def test_the_feature_that_refusals_use_least_comes_first() -> None:
    # Diagonal: costs are 0.5 * H * dw^2 = 4 and 1 of a mean of 2.5, for one unit of use each.
    hessian = matrix((8, 0), (0, 2))

    assert accept(matrix((1, 1)), hessian, budget=0.5).tolist() == [False, True]


def test_what_is_not_accepted_makes_up_for_what_is() -> None:
    # The first column of the inverse over its first entry.
    kept = compensated(HESSIAN, torch.tensor([True, False]))

    assert kept.tolist() == [pytest.approx([1, -1 / 3])]


def test_nothing_else_costs_refusals_less_once_columns_are_fixed() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(9, 5, generator=generator, dtype=torch.float64)
    hessian = inputs.T @ inputs
    accepted = torch.tensor([True, False, True, False, False])
    change = torch.randn(1, 5, generator=generator, dtype=torch.float64)

    best = change[:, accepted] @ compensated(hessian, accepted)

    assert torch.allclose(best[:, accepted], change[:, accepted])
    assert torch.allclose((best @ hessian)[:, ~accepted], torch.zeros(1, 3).double(), atol=1e-12)
    assert (best @ hessian @ best.T).item() < (
        (change * accepted) @ hessian @ (change * accepted).T
    ).item()


def test_damping_adds_a_share_of_the_mean_diagonal() -> None:
    assert damped(matrix((4, 1), (1, 0)), 0.5).tolist() == [[5, 1], [1, 1]]
    assert damped(matrix((0, 0), (0, 0)), 0.5).tolist() == [[0.5, 0], [0, 0.5]]


def test_inputs_that_are_not_finite_stop_the_job() -> None:
    with pytest.raises(NumericalDivergenceError, match="aligned"):
        damped(matrix((float("nan"), 0), (0, 1)), 0.1)


def test_a_budget_of_nothing_gives_back_what_training_began_with() -> None:
    trained = continued_adapter()

    guarded = delivered(trained, safety_budget=0)

    for layer in adapted_layers(trained.model):
        assert torch.allclose(layer.delta(guarded), layer.delta(trained.initial), atol=1e-6)


def test_a_large_budget_changes_nothing() -> None:
    move = safe_delta(continued_adapter(), safety_budget=1e6)

    assert move.norm == 0
    assert move.figures["accepted_share"] == 1
    assert move.losses_after == pytest.approx(move.losses_before)


def test_a_budget_between_accepts_a_part() -> None:
    shares = [
        safe_delta(continued_adapter(), safety_budget=budget).figures["accepted_share"]
        for budget in (0.01, 0.1, 1.0)
    ]

    assert 0 < shares[0] < shares[1] < shares[2] < 1


def test_a_fresh_adapter_keeps_its_rank_without_loss() -> None:
    trained = from_a_fresh_adapter()
    weights = adapter_state(trained.model)

    move = safe_delta(trained, safety_budget=0.1)

    assert move.figures["largest_lost_share"] == pytest.approx(0, abs=1e-9)
    guarded = apply_perturbation(weights, move.tensors, 1.0)
    layer = adapted_layers(trained.model)[0]
    source = AdapterLoss(trained.model, 0)
    gram = input_grams(source, {"x": layer.map_a}, REFUSALS, trained.initial)["x"]
    hessian = damped(2 * gram.double(), 0.01)
    change = layer.delta(weights)
    accepted = accept(change, hessian, 0.1)
    expected = change[:, accepted] @ compensated(hessian, accepted)
    assert torch.allclose(layer.delta(guarded), expected, atol=1e-5)


def test_what_a_continued_adapters_rank_cannot_hold_is_told() -> None:
    figures = safe_delta(continued_adapter(), safety_budget=0.1).figures

    assert 0 < figures["mean_lost_share"] <= figures["largest_lost_share"] < 1


def test_reading_layers_in_groups_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    together = safe_delta(continued_adapter())
    monkeypatch.setattr(adapted_layers_module, "_GROUP_BYTES", 1)

    apart = safe_delta(continued_adapter())

    assert together.tensors.keys() == apart.tensors.keys()
    assert all(torch.equal(together.tensors[name], t) for name, t in apart.tensors.items())


def test_the_models_weights_stay_as_they_are() -> None:
    trained = continued_adapter()
    before = adapter_state(trained.model)

    safe_delta(trained)

    assert all(torch.equal(before[name], now) for name, now in adapter_state(trained.model).items())


def test_without_usable_refusals_there_is_nothing_to_protect() -> None:
    with pytest.raises(NoSupervisedTokensError, match="refusal"):
        safe_delta(continued_adapter(), [unsupervised_row()])
