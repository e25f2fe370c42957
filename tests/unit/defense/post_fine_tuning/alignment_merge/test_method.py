from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from defense.errors import InvalidConfigError, NoSupervisedTokensError, NumericalDivergenceError
from defense.ops.adapted_layers import AdaptedLayer, adapted_layers
from defense.ops.low_rank import Factors
from defense.ops.tensors import apply_perturbation
from defense.post_fine_tuning.alignment_merge.config import AlignmentMergeConfig
from defense.post_fine_tuning.alignment_merge.lockstep import Regression
from defense.post_fine_tuning.alignment_merge.method import Side, build_ending, merge
from defense.protocols import DefenderRows, EncodedRow, Perturbation, PerturbationStep, Trained
from defense.training.lora import LoraSettings, adapter_state
from tests.continued_adapters import continued_adapter
from tests.encoded_rows import rows, unsupervised_row

REFUSALS = rows("No, I will not.", 3)
BENIGN = rows("It is blue.", 2)
USER = rows("Yes.", 4)


def matrix(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


LAYER = AdaptedLayer("layer", "a", "b", 2.0, nn.Identity(), nn.Identity())


def side(product: Tensor, gram: Tensor, counts: float = 1.0, drift: Tensor | None = None) -> Side:
    """One of the two models, its product given whole."""
    known = Regression(gram, torch.zeros(len(product), len(gram)) if drift is None else drift)
    weights = {"a": product, "b": torch.eye(len(product), dtype=torch.float64)}
    return Side(LAYER, weights, known, counts)


def product(merged: Factors) -> Tensor:
    return merged.b_OR @ merged.a_RI


def ending(
    trained: Trained,
    refusals: Sequence[EncodedRow] = REFUSALS,
    benign: Sequence[EncodedRow] = BENIGN,
    **options: object,
) -> Perturbation:
    config = AlignmentMergeConfig.model_validate(options)
    return build_ending(config, DefenderRows(refusals, (), benign), trained, seed=0)


def continued() -> Trained:
    return replace(continued_adapter(), task_rows=USER)


def test_each_input_counts_what_each_side_sees_of_it() -> None:
    sides = (
        side(matrix((4, 4)), matrix((3, 0), (0, 1))),
        side(matrix((0, 8)), matrix((1, 0), (0, 3))),
    )

    merged = merge(sides, damping_ratio=0)

    # Means of 4 and 0 weighted 3 to 1, and of 4 and 8 weighted 1 to 3.
    torch.testing.assert_close(product(merged), matrix((3, 7)))
    assert merged.lost_share < 1e-6


def test_only_how_the_inputs_of_a_side_are_distributed_counts_and_not_their_size() -> None:
    sides = (
        side(matrix((4, 4)), matrix((30, 0), (0, 10))),
        side(matrix((0, 8)), matrix((1, 0), (0, 3))),
    )

    torch.testing.assert_close(product(merge(sides, damping_ratio=0)), matrix((3, 7)))


def test_a_side_counts_as_much_as_it_is_told_to() -> None:
    # Three to one in both inputs.
    sides = (side(matrix((4, 4)), torch.eye(2)), side(matrix((0, 8)), torch.eye(2), counts=3.0))

    torch.testing.assert_close(product(merge(sides, damping_ratio=0)), matrix((1, 7)))


def test_an_input_that_goes_with_another_is_told_apart_from_one_that_comes_alone() -> None:
    # The user's rows have the first input alone, the operator's both at once: x = (1, 1).
    sides = (
        side(matrix((5, 5)), matrix((1, 0), (0, 0))),
        side(matrix((1, 1)), matrix((1, 1), (1, 1)), counts=10.0),
    )

    merged = product(merge(sides, damping_ratio=1e-9))

    # On (1, 0) it answers 5 as trained, and on (1, 1) 2 as before.
    torch.testing.assert_close(merged, matrix((5, -3)), rtol=1e-6, atol=1e-6)


def test_what_the_layer_lacks_at_its_new_inputs_is_added() -> None:
    # Inputs of squares 2 and 2. The outputs lack 0.6 and 1 there per unit, of which s = 2 makes
    # 0.3 and 0.5 of the product.
    drift = matrix((1.2, 2.0))
    sides = (
        side(matrix((1, 1)), 2 * torch.eye(2), drift=drift),
        side(matrix((1, 1)), torch.zeros(2, 2)),
    )

    torch.testing.assert_close(product(merge(sides, damping_ratio=0)), matrix((1.3, 1.5)))


def test_within_the_rank_nothing_near_is_better() -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def one_side() -> Side:
        inputs, lacking = draw(9, 5), draw(9, 4)
        weights = {"a": draw(2, 5), "b": draw(4, 2)}
        return Side(LAYER, weights, Regression(inputs.T @ inputs, lacking.T @ inputs), 1.0)

    sides = (one_side(), one_side())

    def missed(a: Tensor, b: Tensor) -> float:
        """The quadratic whose gradient is `P G - R`."""
        total = 0.0
        for each in sides:
            gram, right = each.equations(0.01)
            total += (((b @ a) @ gram - 2 * right) * (b @ a)).sum().item()
        return total

    merged = merge(sides, 0.01)

    best = missed(merged.a_RI, merged.b_OR)
    assert merged.lost_share > 0.01
    for _ in range(200):
        near = missed(merged.a_RI + 0.01 * draw(2, 5), merged.b_OR + 0.01 * draw(4, 2))
        assert near > best


def test_adapters_that_are_alike_stay_as_they_are() -> None:
    wanted = matrix((1, 2), (3, 5))
    sides = (side(wanted, matrix((2, 1), (1, 2))), side(wanted, matrix((1, 0), (0, 4))))

    torch.testing.assert_close(product(merge(sides, damping_ratio=0.1)), wanted)


def test_a_layer_that_reads_nothing_but_zeros_becomes_a_mean_of_both() -> None:
    sides = (side(matrix((4, 4)), torch.zeros(2, 2)), side(matrix((0, 8)), torch.zeros(2, 2), 3.0))

    torch.testing.assert_close(product(merge(sides, damping_ratio=0.1)), matrix((1, 7)))


@pytest.mark.parametrize("where", ["gram", "drift"])
def test_what_is_not_finite_is_refused(where: str) -> None:
    broken = matrix((1, 0), (0, float("inf"))) if where == "gram" else torch.eye(2)
    drift = matrix((float("nan"), 0)) if where == "drift" else None

    with pytest.raises(NumericalDivergenceError, match="goes into layer"):
        merge([side(matrix((1, 1)), broken, drift=drift)], damping_ratio=0.1)


@pytest.mark.parametrize(("weight", "which"), [(1e6, "initial"), (1e-12, "trained")])
def test_a_weight_far_from_one_gives_back_one_of_the_sides(weight: float, which: str) -> None:
    trained = continued()
    weights = adapter_state(trained.model)
    wanted = {"initial": trained.initial, "trained": weights}[which]

    move = ending(trained, alignment_weight=weight)

    merged = apply_perturbation(weights, move.tensors, 1.0)
    for layer in adapted_layers(trained.model):
        torch.testing.assert_close(
            layer.delta(merged), layer.delta(wanted), rtol=1e-3, atol=1e-4, msg=layer.name
        )


def test_the_model_and_its_weights_stay_as_they_are() -> None:
    trained = continued()
    before = adapter_state(trained.model)

    move = ending(trained)

    after = adapter_state(trained.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert move.norm > 0


def test_what_the_rank_could_not_hold_is_told() -> None:
    figures = ending(continued()).figures

    assert 0 < figures["mean_lost_share"] < figures["largest_lost_share"] < 1


@pytest.mark.parametrize("strength", [0.5, 1.5])
def test_other_strengths_stay_near_the_line_between_the_two_models(strength: float) -> None:
    trained = continued()
    weights = adapter_state(trained.model)
    near = {name: (weights[name] + 9 * tensor) / 10 for name, tensor in trained.initial.items()}

    move = ending(replace(trained, initial=near), alignment_weight=1e6)

    merged, moved = (apply_perturbation(weights, move.tensors, k) for k in (1.0, strength))
    for layer in adapted_layers(trained.model):
        whole = layer.delta(merged) - layer.delta(weights)
        off = layer.delta(moved) - layer.delta(weights) - strength * whole
        assert off.norm() < 0.5 * whole.norm(), layer.name


def test_a_merge_that_changes_nothing_changes_nothing_at_any_strength() -> None:
    trained = continued()
    weights = adapter_state(trained.model)

    move = ending(replace(trained, initial=weights))

    moved = apply_perturbation(weights, move.tensors, 2.0)
    for layer in adapted_layers(trained.model):
        size = layer.delta(weights).norm()
        assert (layer.delta(moved) - layer.delta(weights)).norm() < 0.1 * size, layer.name


def test_every_decoder_layer_is_told_of_and_the_listener_may_stop() -> None:
    told: list[tuple[int, int]] = []

    def stop(step: PerturbationStep) -> None:
        told.append((step.step, step.total_steps))
        if step.step == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        ending(replace(continued(), on_step=stop))

    assert told == [(1, 2), (2, 2)]


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings")
def test_an_adapter_outside_of_decoder_layers_is_refused() -> None:
    settings = LoraSettings(rank=2, alpha=4, target_modules=("lm_head",))

    with pytest.raises(InvalidConfigError, match="within decoder layers"):
        ending(replace(continued_adapter(settings), task_rows=USER))


def test_an_adapter_that_began_from_nothing_is_merged_with_the_base_model() -> None:
    trained = continued()
    nothing = {n: t * (".lora_A." in n) for n, t in trained.initial.items()}

    weights = adapter_state(trained.model)

    move = ending(replace(trained, initial=nothing), alignment_weight=1e6)

    merged = apply_perturbation(weights, move.tensors, 1.0)
    for layer in adapted_layers(trained.model):
        assert layer.delta(merged).norm() < 0.01 * layer.delta(weights).norm()


def test_benign_rows_may_be_left_out() -> None:
    without = ending(continued(), benign=(), benign_rows=0)

    assert without.norm != ending(continued()).norm


@pytest.mark.parametrize(
    ("refusals", "benign", "task", "kind"),
    [
        ([unsupervised_row()], BENIGN, USER, "refusal"),
        (REFUSALS, (), USER, "benign"),
        (REFUSALS, BENIGN, (), "training"),
    ],
)
def test_a_side_without_rows_is_refused(
    refusals: Sequence[EncodedRow],
    benign: Sequence[EncodedRow],
    task: Sequence[EncodedRow],
    kind: str,
) -> None:
    with pytest.raises(NoSupervisedTokensError, match=kind):
        ending(replace(continued(), task_rows=task), refusals, benign)


@pytest.mark.parametrize("option", ["refusal_rows", "benign_rows", "task_rows"])
def test_only_so_many_rows_are_read_as_are_asked_for(option: str) -> None:
    def norm(count: int) -> float:
        config = AlignmentMergeConfig.model_validate({option: count})
        return build_ending(config, DefenderRows(REFUSALS, (), BENIGN), continued(), seed=0).norm

    norms = {norm(count) for count in (1, 2, 4, 4096)}

    # There are 3 refusals, 2 benign rows and 4 of the user's.
    assert len(norms) == {"refusal_rows": 3, "benign_rows": 2, "task_rows": 3}[option]
