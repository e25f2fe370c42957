"""The plan's table and the stage modules say the same, and the order works."""

from collections import Counter
from importlib import import_module

import pytest

from core.analyses import Analysis
from core.follow_up import FollowUp, FollowUpKind, PromptsFile
from core.job_spec import JobSpec
from core.job_stages import stages_of
from core.stages import SNAPSHOT_ARTIFACTS, ArtifactName, Stage, times_run
from tests.unit.worker.pipeline.builders import tiny_spec
from worker.pipeline.plan import (
    PLAN,
    SNAPSHOT_WRITES,
    PlannedStage,
    Subject,
    plan_of,
    stages_for,
    turns,
)

TRAINING = plan_of(tiny_spec())


def following(follow_up: FollowUp) -> JobSpec:
    return tiny_spec().model_copy(update={"version": 2, "follow_up": follow_up})


STRENGTH = following(FollowUp(kind=FollowUpKind.STRENGTH, job_id="ftjob-1", strength=0.5))
SAFETY = following(FollowUp(kind=FollowUpKind.SAFETY, job_id="ftjob-1"))
PROMPTS = following(
    FollowUp(
        kind=FollowUpKind.SAFETY,
        job_id="ftjob-1",
        prompts=PromptsFile(file_id="file-1", sha256="0", prompts=3),
    )
)
ANALYSED = following(FollowUp(kind=FollowUpKind.SAFETY, job_id="ftjob-1", include=tuple(Analysis)))
SPECS = {
    "training": tiny_spec(),
    "strength": STRENGTH,
    "safety": SAFETY,
    "prompts": PROMPTS,
    "analysed": ANALYSED,
}
each_kind_of_job = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())


def test_the_plan_holds_every_stage_once_in_order() -> None:
    assert [stage.name for stage in PLAN] == list(Stage)


@pytest.mark.parametrize("stage", PLAN, ids=lambda stage: stage.name.value)
def test_the_table_agrees_with_the_module(stage: PlannedStage) -> None:
    module = import_module(f"worker.pipeline.stages.{stage.name.value}")

    assert (stage.name, stage.reads, stage.writes) == (module.NAME, module.READS, module.WRITES)
    assert stage.state == getattr(module, "STATE", None)
    assert stage.reads_if_there == getattr(module, "READS_IF_THERE", ())


@each_kind_of_job
def test_a_stage_reads_only_what_an_earlier_one_writes(spec: JobSpec) -> None:
    written: set[ArtifactName] = set()
    for stage in plan_of(spec):
        assert set(stage.reads) <= written
        assert written.isdisjoint(stage.writes)
        written |= set(stage.writes)


def test_every_artifact_is_written_by_some_stage() -> None:
    states = {stage.state for stage in PLAN if stage.state is not None}

    assert {name for stage in PLAN for name in stage.writes} | states == set(ArtifactName)
    assert states == {ArtifactName.TRAINING_STATE}


def test_a_snapshot_takes_every_stage_of_the_final_adapter_but_its_end() -> None:
    snapshot = stages_for(TRAINING, Subject.ADAPTER, Subject.SNAPSHOT)
    final = stages_for(TRAINING, Subject.ADAPTER, Subject.FINAL)

    assert snapshot[:-1] == final[:-1]
    assert [stage.name for stage in (snapshot[-1], final[-1])] == [
        Stage.RELEASE_CHECKPOINT,
        Stage.RELEASE,
    ]
    judged = [Stage.PERTURB, Stage.PACKAGE, Stage.EVALUATE, Stage.GATE, Stage.VERIFY_ARCHIVE]
    assert [stage.name for stage in snapshot[:-1]] == judged


def test_what_a_snapshot_has_of_its_own_is_what_its_stages_write() -> None:
    written = {
        name
        for stage in stages_for(TRAINING, Subject.ADAPTER, Subject.SNAPSHOT)
        for name in stage.writes
    }

    assert written | set(SNAPSHOT_WRITES) == SNAPSHOT_ARTIFACTS


@each_kind_of_job
def test_the_turns_run_every_stage_as_often_as_the_estimates_count(spec: JobSpec) -> None:
    for snapshots in (0, 2):
        planned = turns(plan_of(spec), snapshots)
        runs = Counter(stage for stage, _ in planned)

        counted = {stage: times_run(stage, snapshots) for stage in stages_of(spec)}
        assert {stage: runs[stage] for stage in stages_of(spec)} == counted
        assert runs.keys() == {stage for stage, times in counted.items() if times}
        assert planned[-1] == (Stage.RELEASE, snapshots)


def test_a_follow_up_job_screens_trains_and_perturbs_nothing() -> None:
    judging = [Stage.PACKAGE, Stage.EVALUATE, Stage.GATE, Stage.VERIFY_ARCHIVE, Stage.RELEASE]
    beginning = [Stage.VALIDATE_DATASET, Stage.ADOPT_TRAINING]

    for spec in (STRENGTH, SAFETY):
        assert [stage.name for stage in plan_of(spec)] == beginning + judging
    with_prompts = [stage.name for stage in plan_of(PROMPTS)]
    assert [name for name in with_prompts if name is not Stage.EVALUATE_PROMPTS] == (
        beginning + judging
    )
    assert with_prompts.index(Stage.EVALUATE_PROMPTS) < with_prompts.index(Stage.GATE)
    analysed = [stage.name for stage in plan_of(ANALYSED)]
    assert [name for name in analysed if name is not Stage.ANALYSE] == beginning + judging
    assert (
        analysed.index(Stage.PACKAGE) < analysed.index(Stage.ANALYSE) < analysed.index(Stage.GATE)
    )


def test_a_job_that_trains_has_no_stage_of_follow_up_jobs() -> None:
    names = {stage.name for stage in TRAINING}

    assert set(Stage) - names == {Stage.ADOPT_TRAINING, Stage.EVALUATE_PROMPTS, Stage.ANALYSE}


@pytest.mark.parametrize("stage", PLAN, ids=lambda stage: stage.name.value)
def test_a_stage_that_reads_the_continued_adapter_has_it_brought(stage: PlannedStage) -> None:
    # An attempt may begin with any stage, in a workspace that no earlier stage has filled.
    module = import_module(f"worker.pipeline.stages.{stage.name.value}")

    assert stage.reads_parent == hasattr(module, "continued_adapter")
