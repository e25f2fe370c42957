from collections.abc import Sequence

import pytest
import torch

from defense.errors import CancelledError, InvalidConfigError, NoSupervisedTokensError
from defense.fine_tuning.panacea.config import PanaceaConfig
from defense.fine_tuning.panacea.perturbation import (
    ReferenceRows,
    apply_perturbation,
    build_perturbation,
)
from defense.protocols import EncodedRow, LossGradients, PerturbationStep, Tensors
from tests.encoded_rows import rows, unsupervised_row

HARMFUL = rows("Sure, do this.", 5)
REFUSALS = rows("No, I will not.", 4)
TASK = rows("Yes.", 6)
BENIGN = rows("It is blue.", 3)
ROWS = ReferenceRows(HARMFUL, REFUSALS, TASK, BENIGN)
DESCENT = PanaceaConfig(
    perturbation_radius=0.5,
    perturbation_direction="refusal_descent",
    perturbation_steps=2,
    reference_rows=2,
)


class PlaneSource:
    """A loss per kind of rows on the plane: half the squared distance to a point of its own."""

    def __init__(self, **minima: tuple[float, float]) -> None:
        self._minima = {name: torch.tensor(point) for name, point in minima.items()}
        self.w = {"w": torch.zeros(2)}
        self.read: list[tuple[str, int]] = []

    def weights(self) -> Tensors:
        return self.w

    def gradients(self, rows: Sequence[EncodedRow], at: Tensors | None = None) -> LossGradients:
        sets = {"harmful": HARMFUL, "refusals": REFUSALS, "task": TASK, "benign": BENIGN}
        kind = next(name for name, members in sets.items() if rows[0] in members)
        self.read.append((kind, len(rows)))
        offset = (at or self.w)["w"] - self._minima[kind]
        return LossGradients(float(offset.square().sum() / 2), {"w": offset})

    def mean_loss(self, rows: Sequence[EncodedRow], at: Tensors | None = None) -> float:
        return self.gradients(rows, at).loss


def plane(task: tuple[float, float] = (9.0, 0.0)) -> PlaneSource:
    return PlaneSource(refusals=(3.0, 4.0), harmful=(0.0, -5.0), task=task, benign=(9.0, 0.0))


def options(**changes: object) -> PanaceaConfig:
    return DESCENT.model_copy(update=changes)


def test_refusal_descent_walks_towards_the_refusals_rows_in_steps_of_the_radius() -> None:
    perturbation = build_perturbation(plane(), DESCENT, ROWS, seed=0)

    assert perturbation.tensors["w"].tolist() == pytest.approx([0.6, 0.8])
    assert perturbation.norm == pytest.approx(1.0)
    assert perturbation.losses_before["refusals"] == pytest.approx(12.5)
    assert perturbation.losses_after["refusals"] == pytest.approx(8.0)
    assert not any(step.projection_fired for step in perturbation.steps)


def test_what_would_hurt_the_users_task_is_taken_out_of_the_step() -> None:
    source = plane(task=(-9.0, 0.0))  # moving right raises the task loss

    perturbation = build_perturbation(source, options(perturbation_steps=1), ROWS, seed=0)

    assert perturbation.tensors["w"].tolist() == pytest.approx([0.0, 0.5], abs=1e-6)
    step = perturbation.steps[0]
    assert step.projection_fired
    assert step.cosines["task"] == pytest.approx(0.6)
    assert step.removed["task"] > 0
    assert step.removed["benign"] == 0
    assert perturbation.losses_after["task"] == pytest.approx(40.5 + 0.125)


def test_the_gradient_is_computed_anew_before_each_step() -> None:
    source = plane()
    config = options(perturbation_radius=4.0)

    perturbation = build_perturbation(source, config, ROWS, seed=0)

    # 4 of the 5 units there, then on to 3 units past the minimum, not 4 more: 1 + back by 4.
    assert perturbation.steps[1].losses["refusals"] == pytest.approx(0.5)
    assert perturbation.tensors["w"].tolist() == pytest.approx([8 * 0.6, 8 * 0.8])


def test_harmful_ascent_reads_the_whole_harmful_set_and_nothing_else() -> None:
    source = plane()
    config = options(perturbation_direction="harmful_ascent", perturbation_steps=1)
    only_harmful = ReferenceRows(HARMFUL, [], [], [])

    perturbation = build_perturbation(source, config, only_harmful, seed=0)

    assert perturbation.tensors["w"].tolist() == [0.0, 0.5]
    assert set(source.read) == {("harmful", len(HARMFUL))}


def test_both_adds_the_weighted_ascent_to_the_descent() -> None:
    config = options(perturbation_direction="both", harmful_ascent_weight=1.0, perturbation_steps=1)

    perturbation = build_perturbation(plane(), config, ROWS, seed=0)

    direction = torch.tensor([0.6, 0.8]) + torch.tensor([0.0, 1.0])
    expected = 0.5 * direction / direction.norm()
    assert perturbation.tensors["w"].tolist() == pytest.approx(expected.tolist())


def test_a_step_with_nothing_left_ends_the_walk() -> None:
    source = PlaneSource(
        refusals=(5.0, 0.0), harmful=(0.0, 1.0), task=(-5.0, 0.0), benign=(0.0, 0.0)
    )

    perturbation = build_perturbation(source, DESCENT, ROWS, seed=0)

    assert perturbation.tensors["w"].tolist() == [0.0, 0.0]
    assert len(perturbation.steps) == 1


def test_the_last_batch_perturbation_is_the_last_probe() -> None:
    config = options(final_perturbation="last_batch", perturbation_direction="harmful_ascent")
    probe = {"w": torch.tensor([0.3, 0.4])}

    perturbation = build_perturbation(plane(), config, ROWS, seed=0, last_probe=probe)

    assert perturbation.tensors["w"].tolist() == probe["w"].tolist()
    assert perturbation.norm == pytest.approx(0.5)


def test_the_last_batch_perturbation_needs_a_guarded_step() -> None:
    config = options(final_perturbation="last_batch", perturbation_direction="harmful_ascent")

    with pytest.raises(InvalidConfigError, match="guard_interval") as caught:
        build_perturbation(plane(), config, ROWS, seed=0)

    assert caught.value.param == "final_perturbation"


def test_a_set_without_supervised_tokens_is_named() -> None:
    empty = ReferenceRows(HARMFUL, [unsupervised_row()], TASK, BENIGN)

    with pytest.raises(NoSupervisedTokensError, match="refusals"):
        build_perturbation(plane(), DESCENT, empty, seed=0)


def test_every_step_is_reported_and_can_stop_the_work() -> None:
    seen: list[PerturbationStep] = []

    def stop_at_once(step: PerturbationStep) -> None:
        seen.append(step)
        raise CancelledError

    with pytest.raises(CancelledError):
        build_perturbation(plane(), DESCENT, ROWS, seed=0, on_step=stop_at_once)

    assert [step.step for step in seen] == [1]
    assert set(seen[0].losses) == {"refusals", "task", "benign"}


def test_the_trained_weights_stay_as_they_are() -> None:
    source = plane()

    build_perturbation(source, DESCENT, ROWS, seed=0)

    assert source.w["w"].tolist() == [0.0, 0.0]


def test_the_guarded_adapter_is_the_trained_one_plus_the_scaled_perturbation() -> None:
    trained, move = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([4.0, -2.0])}

    guarded = apply_perturbation(trained, move, 0.5)

    assert guarded["w"].tolist() == [3.0, 1.0]
    assert trained["w"].tolist() == [1.0, 2.0]


def test_the_guarded_adapter_is_rounded_once_from_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    trained, move = (torch.randn(1000, generator=generator) for _ in range(2))

    guarded = apply_perturbation({"w": trained}, {"w": move}, 0.7)["w"]

    pairs = zip(trained.tolist(), move.tolist(), strict=True)
    assert torch.equal(guarded, torch.tensor([weight + 0.7 * step for weight, step in pairs]))
    # What the processor makes of it in float32, in one step or in two, is something else.
    assert not torch.equal(guarded, torch.add(trained, move, alpha=0.7))
    assert not torch.equal(guarded, trained + 0.7 * move)


def test_a_perturbation_of_another_adapter_is_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        apply_perturbation({"w": torch.zeros(2)}, {"w": torch.zeros(1)}, 0.7)


def test_strength_zero_keeps_every_bit() -> None:
    trained = {"w": torch.tensor([-0.0, 1e-42])}

    guarded = apply_perturbation(trained, {"w": torch.tensor([1.0, 1.0])}, 0.0)

    assert guarded["w"].view(torch.int32).tolist() == trained["w"].view(torch.int32).tolist()
