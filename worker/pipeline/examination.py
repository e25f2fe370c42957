"""One model under examination: the same questions for everybody, judged by the same judges."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from peft import PeftModel
from torch import nn

from defense.evaluation.generation import GenerationSettings, generate_answers
from defense.evaluation.preference_accuracy import preference_accuracy
from defense.evaluation.task_accuracy import TaskQuestion, task_accuracy
from defense.protocols import EncodedPair, Exchange, Message, PairScores
from defense.training.loss import AdapterLoss
from defense.training.preferences import score_pairs
from worker.base_models import LoadedModel
from worker.pipeline.judged_answers import (
    PROMPT_SETS,
    JudgedAnswer,
    JudgedSets,
    read_judged_sets,
    write_judged_sets,
)
from worker.row_sources import PromptRow
from worker.trainer_tools import TrainerContext

# Raise when equal inputs would give other results.
EXAMINATION: Final = 2
MOST_TASK_TOKENS: Final = 64
BATCH: Final = 32


@dataclass(frozen=True)
class Paper:
    """The questions of an examination.

    Attributes:
        safety: Harmful prompts that share no template with the defender's rows.
        second_safety: Harmful prompts of another origin.
        over_refusal: Harmless prompts that look harmful.
        task: The user's held-out rows.
        pairs: The same of preferences, in place of questions.
        reference: How likely the answers of the pairs were before training.
    """

    safety: Sequence[PromptRow] = ()
    second_safety: Sequence[PromptRow] = ()
    over_refusal: Sequence[PromptRow] = ()
    task: Sequence[TaskQuestion] = ()
    pairs: Sequence[EncodedPair] = ()
    reference: Sequence[PairScores] = ()

    @property
    def prompt_sets(self) -> dict[str, Sequence[PromptRow]]:
        """The prompts whose answers are judged, as the report names the sets; no empty one."""
        sets = {name: getattr(self, name) for name in PROMPT_SETS}
        return {name: rows for name, rows in sets.items() if rows}

    @property
    def sizes(self) -> dict[str, int]:
        """How many questions of each kind, as the report names them."""
        sizes = {name: len(getattr(self, name)) for name in PROMPT_SETS}
        return {**sizes, "task": len(self.task) + len(self.pairs)}


class Examiner:
    """Asks models the questions of one paper.

    Args:
        context: The stage, for its classifier and to say that work goes on.
        loaded: Whose tokenizer and chat template the models share.
        paper: The questions.

    Attributes:
        answer_tokens: The longest answer that is judged.
    """

    def __init__(self, context: TrainerContext, loaded: LoadedModel, paper: Paper) -> None:
        self._context = context
        self._loaded = loaded
        self._paper = paper
        self.answer_tokens = context.tools.options.evaluation_answer_tokens

    def examine_safety(self, model: nn.Module) -> JudgedSets:
        """Judge a model's answers to the harmful prompts and to the harmless look-alikes."""
        return {
            name: self._judged([row.prompt for row in rows], model)
            for name, rows in self._paper.prompt_sets.items()
        }

    def _judged(self, prompts: Sequence[str], model: nn.Module) -> list[JudgedAnswer]:
        conversations = [(Message("user", prompt),) for prompt in prompts]
        answers = self.answers(model, conversations, self.answer_tokens)
        exchanges = [Exchange(*pair) for pair in zip(prompts, answers, strict=True)]
        tools = self._context.tools
        first, second = tools.classifier.judge(exchanges), tools.second_judge.judge(exchanges)
        return [
            JudgedAnswer.of(answer, judgement, outcome)
            for answer, judgement, outcome in zip(answers, first, second, strict=True)
        ]

    def examine_task(self, model: nn.Module) -> dict[str, Any]:
        """Compare a model's answers to the held-out rows with the right ones; {} without rows.

        Of pairs, what training has changed is measured, and so nothing for the base model.
        """
        if self._paper.pairs:
            return self._examine_pairs(model) if isinstance(model, PeftModel) else {}
        questions = self._paper.task
        if not questions:
            return {}
        answers = self.answers(
            model, [question.messages for question in questions], self._task_tokens()
        )
        return {"task_accuracy": asdict(task_accuracy(questions, answers))}

    def _examine_pairs(self, model: PeftModel) -> dict[str, Any]:
        loss = AdapterLoss(model, self._loaded.pad_token_id)
        scores = score_pairs(loss, self._paper.pairs, self._context.reporter.alive)
        return {"task_accuracy": asdict(preference_accuracy(scores, self._paper.reference))}

    def answers(
        self, model: nn.Module, prompts: Sequence[Sequence[Message]], max_new_tokens: int
    ) -> list[str]:
        """Generate a model's answers, with a sign of life after every batch."""
        settings = GenerationSettings(
            max_new_tokens=max_new_tokens,
            batch_size=BATCH,
            max_prompt_tokens=self._context.spec.hyperparameters.max_sequence_tokens,
        )
        answers: list[str] = []
        for start in range(0, len(prompts), BATCH):
            answers += generate_answers(
                model,
                self._loaded.tokenizer,
                prompts[start : start + BATCH],
                self._loaded.chat_template,
                settings,
            )
            self._context.reporter.alive()
        return answers

    def fingerprint(self, *identity: str) -> str:
        """Name an examination of safety by all that decides its results."""
        classifier, second = self._context.tools.classifier, self._context.tools.second_judge
        prompt_sets = self._paper.prompt_sets
        facts = [
            EXAMINATION,
            self.answer_tokens,
            self._context.spec.hyperparameters.max_sequence_tokens,
            str(self._loaded.model.dtype),
            *identity,
            classifier.name,
            classifier.version,
            second.name,
            second.version,
            self._context.tools.device.type,
            self._loaded.chat_template,
            {name: [row.prompt for row in rows] for name, rows in prompt_sets.items()},
        ]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _task_tokens(self) -> int:
        """Allow as many tokens as the longest right answer has, and a few more."""
        longest = max(
            len(self._loaded.tokenizer(question.reference)["input_ids"])
            for question in self._paper.task
        )
        return min(longest + 4, MOST_TASK_TOKENS)


def cached(path: Path, compute: Callable[[], JudgedSets]) -> JudgedSets:
    """Take judged answers from a file, or compute them and leave them there for the next job."""
    try:
        return read_judged_sets(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        value = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            json.dump(write_judged_sets(value), file, allow_nan=False)
        Path(file.name).replace(path)
        return value
