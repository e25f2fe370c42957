"""One model, measured: what it does with harmful prompts, look-alikes and its user's task.

Every model of a job answers the same suite, so that the differences between base, aligned, tuned
and guarded are differences between models. A missing answer is an error, never a safe one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from defense.evaluation.errors import EvaluationError
from defense.evaluation.outcomes import OutcomeRates, Rate, outcome_rates, rates_by_category
from defense.evaluation.task_accuracy import TaskQuestion, task_accuracy
from defense.moderation.protocol import Judgement, ModerationClassifier
from defense.protocols import Exchange, Message

SAMPLES_PER_MODEL = 8

Answerer = Callable[[Sequence[Sequence[Message]]], list[str]]
"""Answers conversations in order; `generate_answers` with everything but the prompts fixed."""


@dataclass(frozen=True)
class EvaluationSuite:
    """What every model of a job is asked.

    Attributes:
        harmful_prompts: Prompts to refuse.
        harmful_categories: The category of each.
        look_alike_prompts: Harmless prompts that sound dangerous.
        task_questions: Held-out rows of the user's task.
    """

    harmful_prompts: Sequence[str]
    harmful_categories: Sequence[str]
    look_alike_prompts: Sequence[str] = ()
    task_questions: Sequence[TaskQuestion] = ()

    def sizes(self) -> Mapping[str, int]:
        """How many prompts of each kind, as reports name them."""
        return {
            "safety": len(self.harmful_prompts),
            "over_refusal": len(self.look_alike_prompts),
            "task": len(self.task_questions),
        }


@dataclass(frozen=True)
class JudgedSample:
    """One exchange as the classifier saw it, for the reader of a report."""

    prompt: str
    answer: str
    outcome: str
    harmful_score: float
    refusal_score: float
    incoherence_reason: str | None


@dataclass(frozen=True)
class ModelScores:
    """Everything measured on one model.

    Attributes:
        safety: Outcomes on harmful prompts.
        by_category: The same within each category.
        over_refusal: Outcomes on look-alikes; its `refused` is the over-refusal rate.
        task_accuracy: On the user's held-out rows; None if there are none.
        samples: A few judged answers to harmful prompts, evenly spread.
    """

    safety: OutcomeRates
    by_category: Mapping[str, OutcomeRates]
    over_refusal: OutcomeRates | None
    task_accuracy: Rate | None
    samples: Sequence[JudgedSample] = field(default=())

    @property
    def over_refusal_rate(self) -> Rate | None:
        """Share of harmless look-alikes that were refused."""
        return self.over_refusal.refused if self.over_refusal else None

    def as_json(self) -> dict[str, Any]:
        """Plain objects, lists and numbers."""
        rate = self.over_refusal_rate
        return {**asdict(self), "over_refusal_rate": asdict(rate) if rate else None}


def score_model(
    answer: Answerer, classifier: ModerationClassifier, suite: EvaluationSuite
) -> ModelScores:
    """Ask one model the whole suite and judge what it says.

    Raises:
        EvaluationError: The suite has no harmful prompt, or an answer or judgement is missing.
        ModerationError: The classifier's scores are not finite.
    """
    if not suite.harmful_prompts:
        raise EvaluationError("a model cannot be called safe on no harmful prompt at all")
    answers = _answers(answer, _as_conversations(suite.harmful_prompts))
    judgements = _judge(classifier, suite.harmful_prompts, answers)
    look_alikes = _judge_prompts(answer, classifier, suite.look_alike_prompts)
    return ModelScores(
        safety=outcome_rates(suite.harmful_prompts, judgements),
        by_category=rates_by_category(suite.harmful_prompts, suite.harmful_categories, judgements),
        over_refusal=look_alikes,
        task_accuracy=_task_accuracy(answer, suite.task_questions),
        samples=_samples(suite.harmful_prompts, answers, judgements),
    )


def _judge_prompts(
    answer: Answerer, classifier: ModerationClassifier, prompts: Sequence[str]
) -> OutcomeRates | None:
    if not prompts:
        return None
    answers = _answers(answer, _as_conversations(prompts))
    return outcome_rates(prompts, _judge(classifier, prompts, answers))


def _task_accuracy(answer: Answerer, questions: Sequence[TaskQuestion]) -> Rate | None:
    if not questions:
        return None
    return task_accuracy(questions, _answers(answer, [question.messages for question in questions]))


def _as_conversations(prompts: Sequence[str]) -> list[tuple[Message, ...]]:
    return [(Message("user", prompt),) for prompt in prompts]


def _answers(answer: Answerer, conversations: Sequence[Sequence[Message]]) -> list[str]:
    answers = answer(conversations)
    if len(answers) != len(conversations):
        raise EvaluationError(f"{len(conversations)} prompts, but {len(answers)} answers")
    return answers


def _judge(
    classifier: ModerationClassifier, prompts: Sequence[str], answers: Sequence[str]
) -> list[Judgement]:
    return classifier.judge([Exchange(*pair) for pair in zip(prompts, answers, strict=True)])


def _samples(
    prompts: Sequence[str], answers: Sequence[str], judgements: Sequence[Judgement]
) -> list[JudgedSample]:
    stride = max(1, len(prompts) // SAMPLES_PER_MODEL)
    return [
        JudgedSample(
            prompt,
            answer,
            judgement.outcome.value,
            judgement.harmful_score,
            judgement.refusal_score,
            judgement.incoherence_reason,
        )
        for prompt, answer, judgement in list(zip(prompts, answers, judgements, strict=True))[
            ::stride
        ][:SAMPLES_PER_MODEL]
    ]
