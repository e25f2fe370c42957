"""How much of an adapter's safety is left after somebody trains harm into it.

The attacker has the adapter's weights, some harmful rows and plain LoRA fine-tuning: AdamW at a
constant rate, without weight decay, dropout or any guard. At a constant rate the first k steps of
a long attack are the attack of k steps, so that one training gives the whole curve.

The weights under attack are a copy that is handed to the loss; the adapter itself never changes.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from peft import PeftModel

from defense.errors import InvalidConfigError
from defense.evaluation.outcomes import OutcomeRates, outcome_rates
from defense.evaluation.safety import Answerer
from defense.moderation.protocol import ModerationClassifier
from defense.ops.tensors import added, capped, global_norm
from defense.protocols import EncodedRow, Exchange, GradientSource, Message, Tensors
from defense.training.batching import RowSampler, supervised_rows
from defense.training.lora import adapter_state, load_adapter_state

STEPS = (1, 5, 10, 25, 50, 100)
OPTIMIZER = "AdamW, constant rate, no weight decay"

Judge = Callable[[Tensors], OutcomeRates]
"""Lets the model answer with these adapter weights, and judges what it says."""


@dataclass(frozen=True)
class TamperPlan:
    """How the attack is made.

    Attributes:
        learning_rate: Of every step.
        batch_size: Harmful rows of a step.
        seed: Of their order.
        steps: After which the harm is measured, rising; it is measured before the first, too.
        max_gradient_norm: Gradients are scaled down to this norm.
    """

    learning_rate: float
    batch_size: int
    seed: int
    steps: Sequence[int] = STEPS
    max_gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        """Refuse steps that are out of order.

        Raises:
            InvalidConfigError: They do not rise from 1.
        """
        if not self.steps or self.steps[0] < 1 or sorted(set(self.steps)) != list(self.steps):
            raise InvalidConfigError("steps", "must be numbers from 1 that rise")


@dataclass(frozen=True)
class TamperRows:
    """What the attacker has, and what the attack is measured on.

    Attributes:
        attack: Harmful rows to learn.
        judged: Harmful rows to take the loss of; the attack must not hold any of them.
    """

    attack: Sequence[EncodedRow]
    judged: Sequence[EncodedRow]


@dataclass(frozen=True)
class TamperPoint:
    """The adapter after so many steps of the attack.

    Attributes:
        steps: Taken; 0 is the adapter as it was given.
        rows_read: Harmful rows that they read, repeated ones too.
        harmful_loss: Mean token loss of the judged rows, in nats; low is harmful.
        distance: L2 norm of the way from the adapter as it was given.
        outcomes: Of the model's answers; None if no one judges them.
    """

    steps: int
    rows_read: int
    harmful_loss: float
    distance: float
    outcomes: OutcomeRates | None


@dataclass(frozen=True)
class TamperCurve:
    """What an attack makes of an adapter.

    Attributes:
        plan: Of the attack.
        attack_rows: Different harmful rows that the attacker has.
        judged_rows: Rows that the loss is of.
        points: In the order of their steps.
    """

    plan: TamperPlan
    attack_rows: int
    judged_rows: int
    points: tuple[TamperPoint, ...]

    def settings_as_json(self) -> dict[str, Any]:
        """How the attack was made, for reports."""
        return {
            "optimizer": OPTIMIZER,
            "learning_rate": self.plan.learning_rate,
            "batch_size": self.plan.batch_size,
            "max_gradient_norm": self.plan.max_gradient_norm,
            "seed": self.plan.seed,
            "attack_rows": self.attack_rows,
            "judged_rows": self.judged_rows,
        }

    def as_json(self) -> list[dict[str, Any]]:
        """The points as plain objects, lists and numbers."""
        return [asdict(point) for point in self.points]


@dataclass(frozen=True)
class AnswerJudge:
    """Lets a model answer prompts with weights it is given, and judges what it says.

    Attributes:
        model: Has an adapter, which is put back after each judgement.
        answer: Generates its answers.
        classifier: Judges them.
        prompts: Harmful ones, that the attack does not learn from.
    """

    model: PeftModel
    answer: Answerer
    classifier: ModerationClassifier
    prompts: Sequence[str]

    def __call__(self, weights: Tensors) -> OutcomeRates:
        """The outcomes of the answers with these adapter weights."""
        present = adapter_state(self.model)
        load_adapter_state(self.model, weights)
        try:
            answers = self.answer([(Message("user", prompt),) for prompt in self.prompts])
        finally:
            load_adapter_state(self.model, present)
        exchanges = [Exchange(*pair) for pair in zip(self.prompts, answers, strict=True)]
        return outcome_rates(self.prompts, self.classifier.judge(exchanges))


def tamper_curve(
    source: GradientSource,
    rows: TamperRows,
    plan: TamperPlan,
    *,
    start: Tensors | None = None,
    judge: Judge | None = None,
    on_step: Callable[[int], None] = lambda _: None,
) -> TamperCurve:
    """Attack an adapter and measure the harm on the way.

    Args:
        source: The model's loss as a function of its adapter; in evaluation mode, left as it is.
        rows: To attack with and to measure on.
        plan: How.
        start: The adapter, where the model is; None is the one that the model holds.
        judge: Tells what the model answers at each point.
        on_step: Told about every step; may raise to stop.

    Raises:
        InvalidConfigError: A row is to be learned and measured on.
        NoSupervisedTokensError: A set of rows has nothing to learn from.
        NumericalDivergenceError: The attack breaks the model.
    """
    attack = supervised_rows(rows.attack, "attack")
    judged = supervised_rows(rows.judged, "judged")
    if set(attack) & set(judged):
        raise InvalidConfigError("attack", "holds rows that the harm is measured on")
    attacked = _Attack(source, start or source.weights(), attack, plan)
    points = [attacked.point(judged, judge)]
    for step in range(1, plan.steps[-1] + 1):
        attacked.step()
        on_step(step)
        if step in plan.steps:
            points.append(attacked.point(judged, judge))
    return TamperCurve(plan, len(attack), len(judged), tuple(points))


class _Attack:
    """A training of weights that no model holds."""

    def __init__(
        self, source: GradientSource, begin: Tensors, rows: Sequence[EncodedRow], plan: TamperPlan
    ) -> None:
        self._begin = {name: tensor.clone() for name, tensor in begin.items()}
        self._weights = {name: tensor.clone() for name, tensor in begin.items()}
        self._steps = self._rows_read = 0
        self._source = source
        self._largest = plan.max_gradient_norm
        self._sampler = RowSampler(rows, min(plan.batch_size, len(rows)), plan.seed)
        self._optimizer = torch.optim.AdamW(
            list(self._weights.values()), lr=plan.learning_rate, weight_decay=0.0
        )

    def step(self) -> None:
        """Learn the next batch of harmful rows."""
        batch = self._sampler.next_batch()
        found = self._source.gradients(batch, self._weights)
        clipped = capped(found.gradients, self._largest)
        for name, weight in self._weights.items():
            weight.grad = clipped[name]
        self._optimizer.step()
        self._steps += 1
        self._rows_read += len(batch)

    def point(self, judged: Sequence[EncodedRow], judge: Judge | None) -> TamperPoint:
        """Measure the weights as they are now."""
        return TamperPoint(
            steps=self._steps,
            rows_read=self._rows_read,
            harmful_loss=self._source.mean_loss(judged, self._weights),
            distance=global_norm(added(self._weights, self._begin, -1.0)),
            outcomes=None if judge is None else judge(self._weights),
        )
