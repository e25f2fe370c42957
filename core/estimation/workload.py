"""How much work a job is: rows, optimizer steps, tokens, guarded steps.

The worker decides some of it only while it runs: which rows are flagged, held out or dropped. What
that may change is inside the ranges.
"""

from dataclasses import dataclass, fields
from math import ceil
from typing import Final, Self

from core.attributed_rows import REFERENCE_ROWS, attributed_row_count
from core.estimation.ranges import Range
from core.held_out import held_out_count
from core.job_spec import JobSpec
from core.models import File
from core.models.base import Json
from core.screening import ScreeningPolicy
from core.settings import Settings
from defense.job_defense import JobDefense

# Of the shipped harmful rows; an operator's own may be shorter or longer.
HARMFUL_ROW_TOKENS: Final = Range(20, 50, 160)

_ROW_BYTES: Final = 200


@dataclass(frozen=True)
class FileSize:
    """How large a file of rows is."""

    rows: int
    bytes: int

    @classmethod
    def of(cls, file: File) -> Self:
        """Take the counts of the file's validation; rows that nobody counted are guessed."""
        rows = (file.validation or {}).get("usable_rows") or max(1, file.bytes // _ROW_BYTES)
        return cls(rows, file.bytes)


@dataclass(frozen=True)
class JobSize:
    """What decides a job's work besides its spec.

    Attributes:
        training: The training file.
        validation: The validation file, if there is one.
        evaluation_prompts: Prompts of each evaluation set.
        answer_tokens: Longest answer to one of them.
        row_words: Words of the longest training row, where they were counted.
        attribution_rows: The operator's setting.
        second_evaluation_prompts: Harmful prompts of the second source; jobs that earlier releases
            have timed were not asked any.
    """

    training: FileSize
    validation: FileSize | None
    evaluation_prompts: int
    answer_tokens: int
    row_words: int | None = None
    attribution_rows: int = 0
    second_evaluation_prompts: int = 0

    @classmethod
    def of(cls, training: File, validation: File | None, settings: Settings) -> Self:
        """Describe the files of a job under the operator's settings."""
        longest = (training.validation or {}).get("longest_row") or {}
        return cls(
            training=FileSize.of(training),
            validation=None if validation is None else FileSize.of(validation),
            evaluation_prompts=settings.evaluation_prompt_count,
            answer_tokens=settings.evaluation_answer_tokens,
            row_words=longest.get("words"),
            attribution_rows=settings.attribution_rows,
            second_evaluation_prompts=settings.second_evaluation_prompt_count,
        )

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read what `dataclasses.asdict` gave, in this release or a later one."""
        files = {
            name: None if value[name] is None else FileSize(**value[name])
            for name in ("training", "validation")
        }
        known = {each.name for each in fields(cls)}
        return cls(**{name: given for name, given in {**value, **files}.items() if name in known})


class Workload:
    """The work of one job.

    Args:
        spec: What the job asks for, resolved.
        size: Its files, and the operator's evaluation.
    """

    def __init__(self, spec: JobSpec, size: JobSize) -> None:
        self.spec = spec
        self.size = size
        self.defense: JobDefense = spec.job_defense()
        self._guard = self.defense.fine_tuning.guard_work(spec.hyperparameters.batch_size)

    @property
    def is_guarded(self) -> bool:
        """Whether a perturbation is built."""
        return self.defense.ending is not None

    @property
    def learned_rows(self) -> Range:
        """Rows that are trained on.

        `quarantine` may drop most of a file; how much is not known before moderation has read it.
        """
        rows = self.size.training.rows
        learned = rows - self._held_out
        fewest = min(1, learned) if self._drops_rows else learned
        return Range(fewest, learned, rows)

    @property
    def steps(self) -> Range:
        """Optimizer steps; none where another job's training is taken over."""
        if self.spec.follow_up is not None:
            return Range.exactly(0)
        rows = self.learned_rows
        return Range(self._steps(rows.low), self._steps(rows.expected), self._steps(rows.high))

    @property
    def rows_read(self) -> Range:
        """Rows that training reads, all passes together."""
        wanted = self.spec.hyperparameters
        most = self.steps * wanted.batch_size
        passes = self.learned_rows * wanted.n_epochs
        return Range(
            min(most.low, passes.low),
            min(most.expected, passes.expected),
            min(most.high, passes.high),
        )

    def tokens(self, tokens_per_byte: Range) -> Range:
        """Tokens of the user's rows that training reads, all passes together."""
        training = self.size.training
        return self.rows_read * tokens_per_byte * (training.bytes / max(1, training.rows))

    def row_tokens(self, tokens: Range) -> Range:
        """Tell the tokens of a row, from those of all rows that training reads."""
        rows = self.rows_read
        quotients = (
            tokens.low / max(1.0, rows.low),
            tokens.expected / max(1.0, rows.expected),
            tokens.high / max(1.0, rows.high),
        )
        return Range(*sorted(quotients))

    @property
    def guarded_steps(self) -> Range:
        """Optimizer steps at which the guard reads rows as well."""
        if self._guard is None:
            return Range.exactly(0)
        interval = self._guard.interval
        low, expected, high = (
            ceil(steps / interval)
            for steps in (self.steps.low, self.steps.expected, self.steps.high)
        )
        return Range(low, expected, high)

    @property
    def guard_tokens(self) -> Range:
        """Tokens of the defender's rows that the guard reads."""
        guard = self._guard
        if guard is None:
            return Range.exactly(0)
        return (self.guarded_steps * guard.rows + Range.exactly(guard.set_up_rows)) * (
            HARMFUL_ROW_TOKENS
        )

    @property
    def attributed_rows(self) -> Range:
        """Rows whose gradients are looked at before training, the operator's among them."""
        learned, read, wanted = self.learned_rows, self.rows_read, self.size.attribution_rows
        if wanted == 0:
            return Range.exactly(0)
        counts = Range(
            attributed_row_count(int(learned.low), read.low, wanted),
            attributed_row_count(int(learned.expected), read.expected, wanted),
            attributed_row_count(int(learned.high), read.high, wanted),
        )
        return counts + Range.exactly(REFERENCE_ROWS)

    @property
    def task_questions(self) -> int:
        """Held-out rows that the models are asked."""
        held_out = self._held_out if self.size.validation is None else self.size.validation.rows
        return min(held_out, self.size.evaluation_prompts)

    @property
    def _held_out(self) -> int:
        if self.size.validation is not None:
            return 0
        rows = self.size.training.rows
        return held_out_count(rows, rows)

    @property
    def _drops_rows(self) -> bool:
        return self.spec.screening.policy is ScreeningPolicy.QUARANTINE

    def _steps(self, rows: float) -> int:
        wanted = self.spec.hyperparameters
        steps = ceil(rows / wanted.batch_size) * wanted.n_epochs
        return steps if wanted.max_steps is None else min(steps, wanted.max_steps)
