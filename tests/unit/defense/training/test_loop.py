import math

import pytest
import torch

from defense.errors import CancelledError, NoSupervisedTokensError, NumericalDivergenceError
from defense.protocols import GradientSource, GuardCorrection, StepMetrics, Tensors
from defense.training.loop import TrainingPlan, fine_tune
from defense.training.lora import adapter_state, attach_adapter
from tests.encoded_rows import SETTINGS, rows, unsupervised_row
from tests.tiny_models import tiny_llama

ROWS = rows("Yes.", 10)
PLAN = TrainingPlan(epochs=2, batch_size=4, learning_rate=1e-2, seed=0)


class RecordingListener:
    def __init__(self, stop_after: int | None = None) -> None:
        self.steps: list[StepMetrics] = []
        self._stop_after = stop_after

    def on_step(self, metrics: StepMetrics) -> None:
        self.steps.append(metrics)
        if metrics.step == self._stop_after:
            raise CancelledError


class RecordingGuard:
    """Adds nothing, and remembers when and with what it was asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, Tensors]] = []

    def correction(
        self, step: int, source: GradientSource, user_gradients: Tensors
    ) -> GuardCorrection | None:
        assert source.weights().keys() == user_gradients.keys()
        self.calls.append((step, {name: g.clone() for name, g in user_gradients.items()}))
        return None


def trained(plan: TrainingPlan = PLAN, **options: object) -> dict[str, torch.Tensor]:
    model = attach_adapter(tiny_llama(), SETTINGS)
    fine_tune(model, 0, ROWS, plan, **options)  # type: ignore[arg-type]
    return adapter_state(model)


def test_training_lowers_the_loss_and_reports_every_step() -> None:
    listener = RecordingListener()
    model = attach_adapter(tiny_llama(), SETTINGS)

    result = fine_tune(model, 0, ROWS, PLAN, listener=listener)

    assert [metrics.step for metrics in listener.steps] == [1, 2, 3, 4, 5, 6]
    assert listener.steps == list(result.history)
    assert listener.steps[-1].train_loss < listener.steps[0].train_loss
    assert all(0 <= (m.train_mean_token_accuracy or 0) <= 1 for m in listener.steps)
    assert result.steps == listener.steps[0].total_steps == PLAN.total_steps(len(ROWS)) == 6
    assert result.tokens == 2 * sum(len(row.input_ids) for row in ROWS)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, second = trained(), trained()
    other = trained(TrainingPlan(epochs=2, batch_size=4, learning_rate=1e-2, seed=1))

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_torch_random_state_is_put_back() -> None:
    before = torch.get_rng_state()

    trained()

    assert torch.equal(torch.get_rng_state(), before)


def test_accumulated_batches_make_the_step_of_one_large_batch() -> None:
    small, large = RecordingGuard(), RecordingGuard()
    split = TrainingPlan(epochs=1, batch_size=5, learning_rate=1e-2, seed=0, accumulation_steps=2)

    trained(split, guard=small)
    trained(TrainingPlan(epochs=1, batch_size=10, learning_rate=1e-2, seed=0), guard=large)

    assert [step for step, _ in small.calls] == [1]
    for name, gradient in large.calls[0][1].items():
        assert torch.allclose(small.calls[0][1][name], gradient, atol=1e-7), name


def test_the_guard_sees_the_users_gradient_after_clipping() -> None:
    guard = RecordingGuard()
    plan = TrainingPlan(1, 4, 1e-2, 0, max_gradient_norm=1e-3)

    trained(plan, guard=guard)

    for _, gradients in guard.calls:
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients.values()))
        assert norm == pytest.approx(1e-3, rel=1e-4)


def test_training_stops_after_the_steps_that_were_asked_for() -> None:
    listener = RecordingListener()

    trained(TrainingPlan(5, 4, 1e-2, 0, max_steps=2), listener=listener)

    assert [metrics.total_steps for metrics in listener.steps] == [2, 2]


def test_a_listener_can_stop_the_training() -> None:
    listener = RecordingListener(stop_after=2)

    with pytest.raises(CancelledError):
        trained(listener=listener)

    assert len(listener.steps) == 2


def test_rows_that_lost_their_answer_are_skipped_and_counted() -> None:
    model = attach_adapter(tiny_llama(), SETTINGS)

    result = fine_tune(model, 0, [*ROWS, unsupervised_row()], PLAN)

    assert result.skipped_rows == 1


def test_training_on_nothing_is_refused() -> None:
    with pytest.raises(NoSupervisedTokensError):
        fine_tune(attach_adapter(tiny_llama(), SETTINGS), 0, [unsupervised_row()], PLAN)


def test_a_loss_that_is_not_finite_stops_the_training() -> None:
    model = attach_adapter(tiny_llama(), SETTINGS)
    with torch.no_grad():
        next(p for p in model.parameters() if p.requires_grad).fill_(float("inf"))

    with pytest.raises(NumericalDivergenceError, match="step 1"):
        fine_tune(model, 0, ROWS, PLAN)


def test_training_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    trained()

    assert capsys.readouterr().out == ""
