"""A whole estimate, before and after a first job."""

from dataclasses import replace

import pytest

from core.estimation.estimate import estimate_job
from core.estimation.history import History, PastStage
from core.estimation.prediction import Basis
from core.estimation.ranges import Range
from core.estimation.reference import reference_seconds
from core.estimation.workload import Workload
from core.follow_up import FollowUp, FollowUpKind, PromptsFile
from core.job_stages import FOLLOW_UP_ALONE
from core.model_registry import ModelShape
from core.stages import Stage
from tests.unit.core.estimation.workloads import size, spec, workload

PANACEA = {"type": "panacea", "guard_interval": 2}
SHAPE = ModelShape(
    parameters=134_515_008,
    layers=30,
    hidden_size=576,
    intermediate_size=1536,
    query_size=576,
    key_value_size=192,
    vocabulary_size=49152,
)


def past(stage: Stage = Stage.FINE_TUNE, **changes: object) -> PastStage:
    """A stage of a job with 10 rows of 100 bytes, read twice: 500 tokens of 2000 bytes."""
    usual = PastStage(
        job_id="ftjob-1",
        stage=stage,
        device="cpu",
        seconds=50.0,
        spec=spec(),
        size=size(rows=10),
        trained_tokens=500 if stage is Stage.FINE_TUNE else None,
        peak_bytes=2_000_000_000,
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


def test_a_first_job_rests_on_the_reference_figures() -> None:
    found = estimate_job(workload(), History(), SHAPE)

    assert (found.basis, found.jobs, found.device) == (Basis.REFERENCE, 0, None)
    assert set(found.stages) == set(Stage) - FOLLOW_UP_ALONE - {Stage.RELEASE_CHECKPOINT}
    assert found.seconds == Range.total(one.range for one in found.stages.values())
    assert found.tokens.low < found.tokens.expected < found.tokens.high
    assert found.memory_bytes is not None


def test_the_same_job_again_is_expected_to_take_what_it_took() -> None:
    found = estimate_job(workload(), History.of([past()]), SHAPE)

    training = found.stages[Stage.FINE_TUNE]
    assert (found.basis, found.jobs, found.device) == (Basis.MEASURED, 1, "cpu")
    assert found.tokens.expected == pytest.approx(500)
    assert training.range.expected == pytest.approx(50)
    assert found.stages[Stage.EVALUATE].basis is Basis.REFERENCE
    assert found.memory_bytes is not None
    assert found.memory_bytes.expected == pytest.approx(2e9)


def test_a_job_with_more_rows_takes_longer_by_its_tokens() -> None:
    history = History.of([past()])
    small, large = workload(rows=10), workload(rows=19)
    tokens = estimate_job(large, history).tokens

    found = estimate_job(large, history).stages[Stage.FINE_TUNE].range

    ratio = 50 / reference_seconds(Stage.FINE_TUNE, small, Range.exactly(500)).expected
    expected = reference_seconds(Stage.FINE_TUNE, large, tokens).expected * ratio
    assert tokens.expected == pytest.approx(950)
    assert found.expected == pytest.approx(expected)


def test_jobs_on_another_kind_of_device_do_not_count() -> None:
    rows = [past(device="gpu", seconds=1.0, job_id=str(number)) for number in range(3)]
    mixed = [*rows, past(job_id="on a cpu")]

    assert estimate_job(workload(), History.of(mixed)).device == "gpu"
    on_cpu = estimate_job(workload(), History.of(mixed, "cpu"))
    assert on_cpu.stages[Stage.FINE_TUNE].range.expected == pytest.approx(50)


def test_the_guards_part_is_its_share_of_training_and_the_perturbation() -> None:
    found = estimate_job(workload(defense=PANACEA), History(), SHAPE)
    plain = estimate_job(workload(), History(), SHAPE)

    assert found.guard.steps == Range.exactly(3)
    training = found.stages[Stage.FINE_TUNE].range.expected
    perturbing = found.stages[Stage.PERTURB].range.expected
    assert perturbing < found.guard.seconds.expected < perturbing + training
    assert plain.guard.seconds == Range.exactly(0)


def test_memory_of_a_model_without_a_shape_is_that_of_past_jobs() -> None:
    stages = [past(), past(Stage.EVALUATE, peak_bytes=3_000_000_000)]

    assert estimate_job(workload(), History()).memory_bytes is None
    found = estimate_job(workload(), History.of(stages)).memory_bytes
    assert found is not None
    assert found.expected == 3e9


def test_what_is_kept_of_an_estimate_names_every_stage() -> None:
    kept = estimate_job(workload(), History.of([past()])).stored()

    assert (kept["basis"], kept["jobs"], kept["steps"]) == ("measured", 1, 6)
    usual = set(Stage) - FOLLOW_UP_ALONE - {Stage.RELEASE_CHECKPOINT}
    assert set(kept["stages"]) == {stage.value for stage in usual}
    assert set(kept["seconds"]) == {"low", "expected", "high"}


def test_a_job_that_keeps_checkpoints_is_judged_once_more_for_each() -> None:
    work = workload()
    kept = Workload(work.spec.model_copy(update={"checkpoints": 2}), work.size)

    plain, longer = estimate_job(work, History(), SHAPE), estimate_job(kept, History(), SHAPE)

    again = [Stage.PERTURB, Stage.PACKAGE, Stage.EVALUATE, Stage.GATE, Stage.VERIFY_ARCHIVE]
    each = sum(longer.stages[stage].range.expected for stage in again)
    released = longer.stages[Stage.RELEASE_CHECKPOINT].range.expected
    assert longer.seconds.expected == pytest.approx(plain.seconds.expected + 2 * (each + released))


def following(prompts: int | None = None) -> Workload:
    """A job that judges a guarded adapter again."""
    work = workload(defense=PANACEA)
    asked = None if prompts is None else PromptsFile(file_id="f", sha256="0", prompts=prompts)
    follow_up = FollowUp(kind=FollowUpKind.SAFETY, job_id="ftjob-1", prompts=asked)
    return Workload(work.spec.model_copy(update={"follow_up": follow_up}), work.size)


def test_a_follow_up_job_takes_no_steps_and_only_the_time_of_its_own_stages() -> None:
    measured = [past(), *(past(Stage.EVALUATE, job_id=str(number)) for number in range(3))]
    found = estimate_job(following(), History.of(measured), SHAPE)

    assert found.steps == found.tokens == found.guard.steps == Range.exactly(0)
    assert found.guard.seconds == Range.exactly(0)
    assert set(found.stages) == {
        Stage.VALIDATE_DATASET,
        Stage.ADOPT_TRAINING,
        Stage.PACKAGE,
        Stage.EVALUATE,
        Stage.GATE,
        Stage.VERIFY_ARCHIVE,
        Stage.RELEASE,
    }
    assert (found.basis, found.jobs) == (Basis.MEASURED, 3)
    assert found.stored()["seconds"]["expected"] > found.stages[Stage.EVALUATE].range.expected > 0


def test_own_prompts_take_the_longer_the_more_there_are() -> None:
    none, few, many = (
        estimate_job(following(prompts), History(), SHAPE) for prompts in (None, 10, 100)
    )

    assert Stage.EVALUATE_PROMPTS not in none.stages
    assert none.seconds.expected < few.seconds.expected < many.seconds.expected
