"""The plan's table and the stage modules say the same, and the order works."""

from collections import Counter
from importlib import import_module

import pytest

from core.stages import SNAPSHOT_ARTIFACTS, ArtifactName, Stage, times_run
from worker.pipeline.plan import PLAN, SNAPSHOT_WRITES, PlannedStage, Subject, stages_for, turns


def test_the_plan_holds_every_stage_once_in_order() -> None:
    assert [stage.name for stage in PLAN] == list(Stage)


@pytest.mark.parametrize("stage", PLAN, ids=lambda stage: stage.name.value)
def test_the_table_agrees_with_the_module(stage: PlannedStage) -> None:
    module = import_module(f"worker.pipeline.stages.{stage.name.value}")

    assert (stage.name, stage.reads, stage.writes) == (module.NAME, module.READS, module.WRITES)
    assert stage.state == getattr(module, "STATE", None)


def test_a_stage_reads_only_what_an_earlier_one_writes() -> None:
    written: set[ArtifactName] = set()
    for stage in PLAN:
        assert set(stage.reads) <= written
        assert written.isdisjoint(stage.writes)
        written |= set(stage.writes)


def test_every_artifact_is_written_by_some_stage() -> None:
    states = {stage.state for stage in PLAN if stage.state is not None}

    assert {name for stage in PLAN for name in stage.writes} | states == set(ArtifactName)
    assert states == {ArtifactName.TRAINING_STATE}


def test_a_snapshot_takes_every_stage_of_the_final_adapter_but_its_end() -> None:
    snapshot = stages_for(Subject.ADAPTER, Subject.SNAPSHOT)
    final = stages_for(Subject.ADAPTER, Subject.FINAL)

    assert snapshot[:-1] == final[:-1]
    assert [stage.name for stage in (snapshot[-1], final[-1])] == [
        Stage.RELEASE_CHECKPOINT,
        Stage.RELEASE,
    ]
    judged = [Stage.PERTURB, Stage.PACKAGE, Stage.EVALUATE, Stage.GATE, Stage.VERIFY_ARCHIVE]
    assert [stage.name for stage in snapshot[:-1]] == judged


def test_what_a_snapshot_has_of_its_own_is_what_its_stages_write() -> None:
    written = {
        name for stage in stages_for(Subject.ADAPTER, Subject.SNAPSHOT) for name in stage.writes
    }

    assert written | set(SNAPSHOT_WRITES) == SNAPSHOT_ARTIFACTS


def test_the_turns_run_every_stage_as_often_as_the_estimates_count() -> None:
    for snapshots in (0, 2):
        runs = Counter(stage for stage, _ in turns(snapshots))

        assert {stage: runs[stage] for stage in Stage} == {
            stage: times_run(stage, snapshots) for stage in Stage
        }
        assert turns(snapshots)[-1] == (Stage.RELEASE, snapshots)


@pytest.mark.parametrize("stage", PLAN, ids=lambda stage: stage.name.value)
def test_a_stage_that_reads_the_continued_adapter_has_it_brought(stage: PlannedStage) -> None:
    # An attempt may begin with any stage, in a workspace that no earlier stage has filled.
    module = import_module(f"worker.pipeline.stages.{stage.name.value}")

    assert stage.reads_parent == hasattr(module, "continued_adapter")
