"""What a job's stages are expected to take, and the record of what they took."""

from core.estimation.workload import JobSize
from core.job_estimates import JobEstimator
from core.job_spec import JobSpec
from core.models import File, Job
from core.repositories.stage_timings import TIMED_STAGES, MeasuredStage
from core.stages import Stage
from worker.journal import JobJournal
from worker.pipeline.plan import plan_of, turns
from worker.pipeline.plan_clock import PlanClock
from worker.protocol import Done


class Timekeeper:
    """Times the stages of one attempt.

    Args:
        journal: The job's rows.
        estimator: Knows what past jobs took.
        job: The job as it was when this attempt began.
        spec: What it asks for.
        training_file: Its rows.
        validation_file: Its held-out rows, if it has any.
    """

    def __init__(
        self,
        journal: JobJournal,
        estimator: JobEstimator,
        *,
        job: Job,
        spec: JobSpec,
        training_file: File,
        validation_file: File | None,
    ) -> None:
        self._journal = journal
        self._size = JobSize.of(training_file, validation_file, estimator.settings)
        before = job.progress or {}
        # What an earlier attempt has begun may now go on from where that one was: the seconds of
        # this attempt alone say nothing about the stage.
        self._begun_before = before.get("stage")
        estimate = journal.estimate(estimator, spec, self._size)
        self.clock = PlanClock(
            turns(plan_of(spec), spec.checkpoints),
            {stage: one.range.expected for stage, one in estimate.stages.items()},
            total_steps=before.get("total_steps") or round(estimate.steps.expected),
            step=before.get("step", 0),
            percent=before.get("percent", 0.0),
        )

    def record(
        self, stage: Stage, seconds: float, done: Done, trained_tokens: int | None = None
    ) -> None:
        """Keep what a stage took, if it ran in one piece."""
        if stage not in TIMED_STAGES or stage.value == self._begun_before:
            return
        self._journal.record_timing(
            MeasuredStage(
                stage=stage,
                device=done.device,
                seconds=seconds,
                size=self._size,
                trained_tokens=trained_tokens,
                peak_bytes=done.peak_bytes,
            )
        )
