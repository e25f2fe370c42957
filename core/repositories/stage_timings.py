"""Reads and writes of `stage_timings`: what jobs took, and how well that was foretold."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from pydantic import ValidationError
from sqlalchemy import Float, cast, func, literal, select, true, union_all, values
from sqlalchemy import column as sql_column
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, aliased
from sqlalchemy.types import Text

from core.errors import LeaseLostError
from core.estimation.history import PastStage
from core.estimation.workload import JobSize
from core.job_spec import JobSpec
from core.job_stages import FOLLOW_UP_ALONE
from core.job_state import JobStatus
from core.models import Job, StageTiming
from core.models.base import Json
from core.stages import Stage
from defense.errors import InvalidConfigError

# `release` ends the job itself, and is over in a moment; so are the stages of follow-up jobs alone,
# or they depend on prompts that no other job has.
# Of the stages that each adapter takes, the final adapter's turn is measured.
_NOT_TIMED: Final = FOLLOW_UP_ALONE | {Stage.RELEASE, Stage.RELEASE_CHECKPOINT}
TIMED_STAGES: Final[tuple[Stage, ...]] = tuple(stage for stage in Stage if stage not in _NOT_TIMED)
TOTAL: Final = "total"
_LATEST: Final = 20


@dataclass(frozen=True)
class MeasuredStage:
    """What is known of a stage when it ends; see `PastStage`."""

    stage: Stage
    device: str
    seconds: float
    size: JobSize
    trained_tokens: int | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class EstimateQuality:
    """How the durations of past jobs compare with what they were told when they were created.

    Attributes:
        part: A stage, or `total` for all stages of a job together.
        count: How many were estimated and then measured.
        in_range: How many of them lay between `low` and `high`.
        ratio_sum: Sum of measured over expected durations.
        at_most: How many of these ratios are at most each bound that was asked for.
    """

    part: str
    count: int
    in_range: int
    ratio_sum: float
    at_most: tuple[int, ...]


class StageTimingRepository:
    """Durations of every project's jobs: figures of machines, which name no project."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def record(self, job_id: str, fence: int, measured: MeasuredStage) -> None:
        """Keep what a stage took, beside what the job was told that it would take.

        Raises:
            LeaseLostError: The caller no longer holds the job.
        """
        job = self._session.scalar(
            select(Job)
            .where(Job.id == job_id, Job.fence == fence, Job.status == JobStatus.RUNNING)
            .with_for_update(key_share=True)
        )
        if job is None:
            raise LeaseLostError(f"Job {job_id} is no longer held with fence {fence}.")
        told = (job.estimate or {}).get("stages", {}).get(measured.stage.value, {})
        found = {
            "model": job.spec["model"],
            "device": measured.device,
            "seconds": measured.seconds,
            "size": asdict(measured.size),
            "trained_tokens": measured.trained_tokens,
            "peak_bytes": measured.peak_bytes,
            "estimated_low_seconds": told.get("low"),
            "estimated_seconds": told.get("expected"),
            "estimated_high_seconds": told.get("high"),
        }
        self._session.execute(
            insert(StageTiming)
            .values(job_id=job_id, stage=measured.stage.value, **found)
            .on_conflict_do_update(index_elements=["job_id", "stage"], set_=found)
        )

    def latest(self, model: str) -> list[PastStage]:
        """List the last timings of each stage on a base model, newest first within a stage."""
        stages = values(sql_column("name", Text), name="stages").data(
            [(stage.value,) for stage in TIMED_STAGES]
        )
        newest = (
            select(StageTiming)
            .where(StageTiming.model == model, StageTiming.stage == stages.c.name)
            .order_by(StageTiming.created_at.desc())
            .limit(_LATEST)
            .lateral()
        )
        timing = aliased(StageTiming, newest)
        rows = self._session.execute(
            select(timing, Job.spec)
            .select_from(stages)
            .join(newest, true())
            .join(Job, Job.id == timing.job_id)
        )
        return [past for row, spec in rows if (past := _past_stage(row, spec)) is not None]

    def quality(self, bounds: Sequence[float]) -> list[EstimateQuality]:
        """Compare all estimates with what came, by stage and for whole jobs."""
        measures = {
            "actual": StageTiming.seconds,
            "low": StageTiming.estimated_low_seconds,
            "expected": StageTiming.estimated_seconds,
            "high": StageTiming.estimated_high_seconds,
        }
        was_told = StageTiming.estimated_seconds > 0
        by_stage = select(
            StageTiming.stage.label("part"),
            *(measure.label(name) for name, measure in measures.items()),
        ).where(was_told)
        whole = (
            select(
                literal(TOTAL, Text).label("part"),
                *(func.sum(measure).label(name) for name, measure in measures.items()),
            )
            .where(was_told)
            .group_by(StageTiming.job_id)
            .having(func.count() == len(TIMED_STAGES))
        )
        parts = union_all(by_stage, whole).subquery()
        ratio = parts.c.actual / parts.c.expected
        is_inside = parts.c.actual.between(parts.c.low, parts.c.high)
        statement = select(
            parts.c.part,
            func.count(),
            func.count().filter(is_inside),
            cast(func.sum(ratio), Float),
            *(func.count().filter(ratio <= bound) for bound in bounds),
        ).group_by(parts.c.part)
        return [
            EstimateQuality(part, count, inside, total, tuple(at_most))
            for part, count, inside, total, *at_most in self._session.execute(
                statement.order_by(parts.c.part)
            )
        ]


def _past_stage(row: StageTiming, stored_spec: Json) -> PastStage | None:
    """Read a row; None for a job of an earlier release whose words are no longer known."""
    try:
        spec = JobSpec.model_validate(stored_spec)
        spec.job_defense()
    except (ValidationError, InvalidConfigError):
        return None
    return PastStage(
        job_id=row.job_id,
        stage=Stage(row.stage),
        device=row.device,
        seconds=row.seconds,
        spec=spec,
        size=JobSize.from_json(row.size),
        trained_tokens=row.trained_tokens,
        peak_bytes=row.peak_bytes,
    )
