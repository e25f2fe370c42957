"""The estimate of one job: tokens, steps, the guard's share, memory and time, as ranges."""

from dataclasses import dataclass

from core.estimation.history import History
from core.estimation.memory import longest_row_tokens, memory_bytes
from core.estimation.prediction import Basis, Observation, Prediction, predict, spread_of
from core.estimation.ranges import Range
from core.estimation.reference import TOKENS_PER_BYTE, reference_seconds
from core.estimation.workload import Workload
from core.job_stages import stages_of
from core.model_registry import ModelShape
from core.models.base import Json
from core.stages import Stage, times_run


@dataclass(frozen=True)
class GuardOverhead:
    """What the defense costs besides plain training; all of it is in the job's totals."""

    steps: Range
    tokens: Range
    seconds: Range


@dataclass(frozen=True)
class JobEstimate:
    """What a job will take.

    Attributes:
        tokens: Of the user's rows, all passes together.
        steps: Optimizer steps.
        guard: The defense's part.
        memory_bytes: The peak; None if neither the model's shape nor a past job is known.
        stages: What each stage of the plan takes, each time.
        snapshots: How many snapshots take the stages of an adapter besides the final one.
        device: The kind of device it is estimated for; None if nothing was measured.
    """

    tokens: Range
    steps: Range
    guard: GuardOverhead
    memory_bytes: Range | None
    stages: dict[Stage, Prediction]
    snapshots: int
    device: str | None

    @property
    def seconds(self) -> Range:
        """From the claim to the end."""
        return Range.total(
            one.range * float(times_run(stage, self.snapshots))
            for stage, one in self.stages.items()
        )

    @property
    def basis(self) -> Basis:
        """Whether the heart of the job was measured here."""
        return self._heart.basis

    @property
    def jobs(self) -> int:
        """How many past jobs the time of the heart rests on."""
        return self._heart.jobs

    @property
    def _heart(self) -> Prediction:
        """Training; of a job that trains nothing, the evaluation."""
        return self.stages.get(Stage.FINE_TUNE) or self.stages[Stage.EVALUATE]

    def stored(self) -> Json:
        """Give what `jobs.estimate` keeps, to be compared with what the job takes."""
        return {
            "basis": self.basis.value,
            "jobs": self.jobs,
            "steps": self.steps.expected,
            "seconds": self.seconds.rounded().to_json(),
            "stages": {
                stage.value: one.range.rounded().to_json() for stage, one in self.stages.items()
            },
        }


def estimate_job(work: Workload, history: History, shape: ModelShape | None = None) -> JobEstimate:
    """Estimate a job from past ones on the same model, or else from the reference figures."""
    tokens = training_tokens(work, history)
    parameters = None if shape is None else shape.parameters
    stages = {
        stage: predict(
            reference_seconds(stage, work, tokens, parameters),
            _observations(stage, history, parameters),
        )
        for stage in stages_of(work.spec)
        if times_run(stage, work.spec.checkpoints)
    }
    return JobEstimate(
        tokens=tokens,
        steps=work.steps,
        guard=_guard(work, tokens, stages),
        memory_bytes=_memory(work, tokens, history, shape),
        stages=stages,
        snapshots=work.spec.checkpoints,
        device=history.device,
    )


def training_tokens(work: Workload, history: History) -> Range:
    """Tell how many tokens training reads.

    From the bytes of the file, and the tokens that bytes of past files on this model had.
    """
    seen = history.tokens_per_byte()
    return work.tokens(spread_of(seen) if seen else TOKENS_PER_BYTE)


def _observations(stage: Stage, history: History, parameters: int | None) -> list[Observation]:
    found = []
    for row in history.of_stage(stage):
        work = Workload(row.spec, row.size)
        tokens = (
            training_tokens(work, history)
            if row.trained_tokens is None
            else Range.exactly(row.trained_tokens)
        )
        reference = reference_seconds(stage, work, tokens, parameters)
        found.append(Observation(row.seconds, reference.expected))
    return found


def _guard(work: Workload, tokens: Range, stages: dict[Stage, Prediction]) -> GuardOverhead:
    if not work.is_guarded or Stage.FINE_TUNE not in stages:
        nothing = Range.exactly(0)
        return GuardOverhead(nothing, nothing, nothing)
    extra = work.guard_tokens
    share = extra.expected / max(1.0, extra.expected + tokens.expected)
    seconds = stages[Stage.FINE_TUNE].range * share + stages[Stage.PERTURB].range
    return GuardOverhead(work.guarded_steps, extra, seconds)


def _memory(
    work: Workload, tokens: Range, history: History, shape: ModelShape | None
) -> Range | None:
    peaks = history.peaks()
    if shape is None:
        return spread_of([peak for _, peak in peaks]) if peaks else None
    by_formula = memory_bytes(work, shape, _row_tokens(work, tokens))
    if not peaks:
        return by_formula
    seen = []
    for row, peak in peaks:
        past = Workload(row.spec, row.size)
        formula = memory_bytes(past, shape, _row_tokens(past, training_tokens(past, history)))
        seen.append(Observation(peak, formula.expected))
    return predict(Range.exactly(by_formula.expected), seen).range


def _row_tokens(work: Workload, tokens: Range) -> Range:
    return longest_row_tokens(work, work.row_tokens(tokens))
