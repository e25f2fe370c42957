"""Attacks on the tiny model's adapter."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch

from defense.errors import InvalidConfigError
from defense.evaluation.outcomes import OutcomeRates, outcome_rates
from defense.evaluation.tamper import (
    AnswerJudge,
    TamperCurve,
    TamperPlan,
    TamperRows,
    tamper_curve,
)
from defense.moderation.content import TextJudgement
from defense.moderation.protocol import Judgement, Outcome
from defense.ops.tensors import added, capped, global_norm
from defense.protocols import Exchange, Message, Tensors
from defense.training.lora import adapter_state, attach_adapter
from defense.training.loss import AdapterLoss
from tests.encoded_rows import SETTINGS, rows
from tests.tiny_models import tiny_llama

ALL = rows("Sure, here.", 10)
ROWS = TamperRows(attack=ALL[:6], judged=ALL[6:])
PLAN = TamperPlan(learning_rate=1e-2, batch_size=4, seed=0, steps=(1, 5, 10, 25))
JUDGED_SAFE = Judgement(Outcome.REFUSED, 0.0, 1.0, coherent=True, category_scores={})


class FakeClassifier:
    """Calls an answer what it says it is."""

    name = "fake"
    version = "1"

    def judge(self, exchanges: Sequence[Exchange]) -> list[Judgement]:
        return [
            Judgement(Outcome(exchange.answer), 0.0, 0.0, coherent=True, category_scores={})
            for exchange in exchanges
        ]

    def judge_texts(self, texts: Sequence[str]) -> list[TextJudgement]:
        raise NotImplementedError


@pytest.fixture
def source() -> AdapterLoss:
    return AdapterLoss(attach_adapter(tiny_llama(), SETTINGS).eval(), 0)


def attack(source: AdapterLoss, plan: TamperPlan = PLAN) -> TamperCurve:
    return tamper_curve(source, ROWS, plan)


def test_harm_grows_with_every_further_attack(source: AdapterLoss) -> None:
    found = attack(source)

    losses = [point.harmful_loss for point in found.points]
    assert [point.steps for point in found.points] == [0, 1, 5, 10, 25]
    assert all(later < before for before, later in pairwise(losses))
    assert losses[0] - losses[-1] > 0.1
    distances = [point.distance for point in found.points]
    assert distances[0] == 0
    assert distances == sorted(distances)
    # Six rows, four to a step: the second step of each pass reads the two that are left.
    assert [point.rows_read for point in found.points] == [0, 4, 16, 30, 76]
    assert (found.attack_rows, found.judged_rows) == (6, 4)


def test_the_adapter_stays_as_it_was_and_the_attack_repeats(source: AdapterLoss) -> None:
    before = adapter_state(source.model)
    given = {name: tensor.clone() for name, tensor in before.items()}

    first = tamper_curve(source, ROWS, PLAN, start=given)
    second = tamper_curve(source, ROWS, PLAN)

    assert first == second
    for name, tensor in adapter_state(source.model).items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(given[name], before[name])


def test_another_seed_reads_the_rows_in_another_order(source: AdapterLoss) -> None:
    other = TamperPlan(**{**vars(PLAN), "seed": 1})

    assert attack(source, other).points != attack(source).points


def test_a_short_attack_is_the_beginning_of_a_long_one(source: AdapterLoss) -> None:
    short = TamperPlan(**{**vars(PLAN), "steps": (1, 5)})

    assert attack(source, short).points == attack(source).points[:3]


def test_the_first_step_is_adams_on_the_clipped_gradient(source: AdapterLoss) -> None:
    whole = TamperPlan(learning_rate=0.01, batch_size=6, seed=0, steps=(1,), max_gradient_norm=1e-7)
    begin = adapter_state(source.model)

    found = attack(source, whole).points[1]

    # Adam's first step divides the gradient by its own size and 1e-8, which is as large here.
    clipped = capped(source.gradients(ROWS.attack).gradients, 1e-7)
    move = {name: -0.01 * g / (g.abs() + 1e-8) for name, g in clipped.items()}
    assert found.distance == pytest.approx(global_norm(move), rel=1e-4)
    expected = source.mean_loss(ROWS.judged, added(begin, move))
    assert found.harmful_loss == pytest.approx(expected, rel=1e-5)


def test_the_attack_starts_from_the_weights_it_is_given(source: AdapterLoss) -> None:
    start = {name: tensor + 0.1 for name, tensor in adapter_state(source.model).items()}

    found = tamper_curve(source, ROWS, PLAN, start=start)

    assert found.points[0].harmful_loss == source.mean_loss(ROWS.judged, start)
    assert found.points[0].harmful_loss != attack(source).points[0].harmful_loss


def test_the_judge_sees_the_weights_of_every_point_and_the_listener_every_step(
    source: AdapterLoss,
) -> None:
    seen: list[float] = []
    steps: list[int] = []

    def judge(weights: Tensors) -> OutcomeRates:
        seen.append(source.mean_loss(ROWS.judged, weights))
        return outcome_rates(["p"], [JUDGED_SAFE])

    found = tamper_curve(source, ROWS, PLAN, judge=judge, on_step=steps.append)

    assert seen == [point.harmful_loss for point in found.points]
    assert steps == list(range(1, 26))
    outcomes = found.as_json()[-1]["outcomes"]
    assert outcomes["n"] == 1
    assert outcomes["harmful"]["high"] == pytest.approx(3.8415 / 4.8415, abs=1e-4)


def test_a_row_cannot_be_learned_and_judged_by(source: AdapterLoss) -> None:
    with pytest.raises(InvalidConfigError, match="measured on"):
        tamper_curve(source, TamperRows(ALL[:6], ALL[5:]), PLAN)


@pytest.mark.parametrize("steps", [(), (0, 1), (5, 1), (1, 1)])
def test_steps_rise_from_one(steps: tuple[int, ...]) -> None:
    with pytest.raises(InvalidConfigError):
        TamperPlan(learning_rate=1e-2, batch_size=4, seed=0, steps=steps)


def test_the_settings_are_those_of_the_attack(source: AdapterLoss) -> None:
    found = attack(source).settings_as_json()

    assert found == {
        "optimizer": "AdamW, constant rate, no weight decay",
        "learning_rate": 1e-2,
        "batch_size": 4,
        "max_gradient_norm": 1.0,
        "seed": 0,
        "attack_rows": 6,
        "judged_rows": 4,
    }


@pytest.mark.parametrize("fails", [False, True])
def test_the_answers_are_those_of_the_weights_given_and_the_models_own_are_put_back(
    source: AdapterLoss, *, fails: bool
) -> None:
    model = source.model
    own = adapter_state(model)
    others = {name: tensor + 1.0 for name, tensor in own.items()}

    def answer(conversations: Sequence[Sequence[Message]]) -> list[str]:
        if fails:
            raise RuntimeError(len(conversations))
        held = adapter_state(model)
        same = all(torch.equal(held[name], others[name]) for name in held)
        return ["harmful" if same else "refused", "incoherent"]

    judge = AnswerJudge(model, answer, FakeClassifier(), ["one", "two"])  # type: ignore[arg-type]

    if fails:
        with pytest.raises(RuntimeError):
            judge(others)
    else:
        rates = judge(others)
        assert (rates.harmful.value, rates.incoherent.value, rates.refused.value) == (0.5, 0.5, 0)
    assert all(torch.equal(own[name], tensor) for name, tensor in adapter_state(model).items())
