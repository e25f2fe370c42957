"""Walks the plan for one claimed job.

The runner owns what every stage would otherwise repeat: skip what is published, bring inputs,
publish outputs, events, timing and log context. `worker.pipeline.outcome` maps its errors.

Each snapshot that training has kept takes the same way as the final adapter, through the same
stages, and before it: so the job's report can name those that were blocked.
"""

import time
from functools import partial
from importlib import import_module
from typing import Final

import structlog

from core.job_estimates import JobEstimator
from core.job_spec import JobSpec
from core.stages import ArtifactName, Stage
from core.storage.protocol import ArtifactStorage
from worker.artifact_exchange import ArtifactExchange
from worker.cancellation import StopSignals
from worker.errors import JobPausedError
from worker.journal import JobJournal
from worker.pipeline.context import GatePolicy, SupervisorContext
from worker.pipeline.origin import fetch_origin, fetch_prompts
from worker.pipeline.plan import (
    SNAPSHOT_WRITES,
    Place,
    PlannedStage,
    Subject,
    plan_of,
    stages_for,
)
from worker.pipeline.raised_strength import raised_strength
from worker.pipeline.reporting import JournalReporter
from worker.pipeline.timekeeping import Timekeeper
from worker.protocol import Done, RunStage
from worker.publication import JobPublisher
from worker.supervisor import TrainerSupervisor
from worker.workspace import Workspace

STAGE_PACKAGE: Final = "worker.pipeline.stages"

_log = structlog.get_logger(__name__)


class JobRunner:
    """Runs the stages of one attempt.

    Args:
        journal: The job's rows, under our fence.
        storage: Where artifacts lie.
        supervisor: Runs the tensor stages.
        signals: The reasons to stop.
        workspace: The empty folder of this attempt.
        policy: The limits of the gate.
        estimator: Tells what the stages are expected to take.
    """

    def __init__(
        self,
        *,
        journal: JobJournal,
        storage: ArtifactStorage,
        supervisor: TrainerSupervisor,
        signals: StopSignals,
        workspace: Workspace,
        policy: GatePolicy,
        estimator: JobEstimator,
    ) -> None:
        self._journal = journal
        self._estimator = estimator
        self._supervisor = supervisor
        self._signals = signals
        self._policy = policy
        self._storage = storage
        self._exchange = ArtifactExchange(storage, journal, workspace)

    def run(self) -> None:
        """Run every stage that has not been published yet.

        Raises:
            TunewardError: Whatever keeps the job from its end; see `worker.pipeline.outcome`.
        """
        self._job, self._training_file, self._validation_file = self._journal.load()
        self._spec = JobSpec.model_validate(self._job.spec)
        self._times = Timekeeper(
            self._journal,
            self._estimator,
            job=self._job,
            spec=self._spec,
            training_file=self._training_file,
            validation_file=self._validation_file,
        )
        attempt = self._journal.claim.attempt
        self._journal.event(
            "The job is running." if attempt == 1 else f"The job is running: attempt {attempt}."
        )
        plan = plan_of(self._spec)
        self._walk(stages_for(plan, Subject.JOB), self._exchange)
        self._exchange.fetch((ArtifactName.TRAINING,))
        trained = self._exchange.workspace.read_json(ArtifactName.TRAINING)
        # A job that was trained under an earlier release has taken none and says nothing of it.
        snapshots = [self._exchange.at_snapshot(step) for step in trained.get("snapshot_steps", ())]
        for turn, snapshot in enumerate(snapshots):
            self._walk(stages_for(plan, Subject.ADAPTER, Subject.SNAPSHOT), snapshot, turn)
        for snapshot in snapshots:
            snapshot.fetch((ArtifactName.CHECKPOINT,))
        final = stages_for(plan, Subject.ADAPTER, Subject.FINAL)
        self._walk(final, self._exchange, self._last_turn)

    @property
    def _last_turn(self) -> int:
        """The final adapter's turn at the stages that each adapter takes: behind all snapshots."""
        return self._spec.checkpoints

    def _walk(
        self, stages: tuple[PlannedStage, ...], exchange: ArtifactExchange, turn: int = 0
    ) -> None:
        for place, stage in enumerate(stages):
            self._pass(stage, exchange, turn)
            if stage.name is Stage.GATE:
                self._raise_while_harmful(stages, place, exchange, turn)

    def _pass(self, stage: PlannedStage, exchange: ArtifactExchange, turn: int) -> None:
        """Run a stage, unless what it writes is there."""
        self._signals.raise_if_stopped()
        facts = {"stage": stage.name.value, "snapshot_step": exchange.workspace.snapshot_step}
        if exchange.is_published(stage.writes):
            _log.info("stage_skipped", **facts)
            return
        with structlog.contextvars.bound_contextvars(**facts):
            self._run_stage(stage, exchange, turn)

    def _raise_while_harmful(
        self, stages: tuple[PlannedStage, ...], gate: int, exchange: ArtifactExchange, turn: int
    ) -> None:
        """Try more of the perturbation while the gate finds its harm alone too high."""
        names = [stage.name for stage in stages]
        if Stage.PERTURB not in names:
            return  # a follow-up job is about this strength and no other
        made_of_it = stages[names.index(Stage.PERTURB) + 1 :]
        until_gate = stages[names.index(Stage.PERTURB) + 1 : gate + 1]
        withdrawn = {name for stage in made_of_it for name in stage.writes}
        workspace = exchange.workspace
        while True:
            exchange.fetch((ArtifactName.REPORT,))
            raised = raised_strength(workspace.read_json(ArtifactName.REPORT))
            if raised is None:
                return
            workspace.write_json(ArtifactName.STRENGTH, raised)
            exchange.supersede(ArtifactName.STRENGTH, len(raised["raised"]), withdrawn)
            JournalReporter(self._journal, self._times.clock, workspace.snapshot_step).event(
                f"Too harmful at perturbation strength {raised['raised'][-1]['strength']:g}; "
                f"trying {raised['strength']:g}.",
                level="warn",
                data={"raised": raised["raised"]},
            )
            for stage in until_gate:
                self._pass(stage, exchange, turn)

    def _run_stage(self, stage: PlannedStage, exchange: ArtifactExchange, turn: int) -> None:
        started = time.monotonic()
        workspace = exchange.workspace
        self._times.clock.begin(stage.name, turn)
        reporter = JournalReporter(self._journal, self._times.clock, workspace.snapshot_step)
        reporter.alive()
        self._bring_inputs(stage, exchange)
        reporter.event(stage.sentence)
        done = Done()
        if stage.place is Place.TRAINER:
            request = RunStage(
                job_id=self._journal.claim.job_id,
                fence=self._journal.claim.fence,
                stage=stage.name,
                workspace=str(workspace.root),
                snapshot_step=workspace.snapshot_step,
                spec=self._spec.model_dump(mode="json"),
            )
            done = self._run_in_trainer(stage, request, reporter)
        else:
            context = SupervisorContext(
                job_id=self._journal.claim.job_id,
                spec=self._spec,
                workspace=workspace,
                reporter=reporter,
                publisher=JobPublisher(self._job, self._journal, exchange, self._storage),
                policy=self._policy,
            )
            import_module(f"{STAGE_PACKAGE}.{stage.name.value}").run(context)
        self._signals.raise_if_lease_lost()
        if stage.takes_snapshots:
            # Before the stage's own, which say that it is done.
            for step in workspace.snapshots_written():
                exchange.at_snapshot(step).publish(SNAPSHOT_WRITES)
        exchange.publish(stage.writes)
        seconds = time.monotonic() - started
        if workspace.snapshot_step is None:
            self._times.record(stage.name, seconds, done, reporter.trained_tokens)
        _log.info("stage_finished", seconds=round(seconds, 3))

    def _run_in_trainer(
        self, stage: PlannedStage, request: RunStage, reporter: JournalReporter
    ) -> Done:
        on_state = partial(self._exchange.publish_state, stage.state) if stage.state else None
        try:
            return self._supervisor.run_stage(
                request, reporter.forward, self._signals, on_state=on_state
            )
        except JobPausedError:
            reporter.flush()
            raise

    def _bring_inputs(self, stage: PlannedStage, exchange: ArtifactExchange) -> None:
        exchange.fetch(stage.reads)
        exchange.fetch_if_there(stage.reads_if_there)
        if stage.state is not None:
            exchange.fetch_state(stage.state)
        if stage.reads_uploads:
            exchange.fetch_upload(self._training_file)
            if self._validation_file is not None:
                exchange.fetch_upload(self._validation_file, validation=True)
        parent = self._spec.parent
        if stage.reads_parent and parent is not None:
            file = self._journal.parent_archive(self._job.project_id, parent)
            exchange.fetch_parent(file, parent.sha256)
        initial = self._spec.initial_adapter
        if stage.reads_parent and initial is not None:
            file = self._journal.initial_adapter(
                initial.file_id, self._spec.option_path("initial_adapter")
            )
            exchange.fetch_initial_adapter(file, initial.sha256)
        follow_up = self._spec.follow_up
        if stage.reads_origin and follow_up is not None:
            fetch_origin(self._journal, exchange, follow_up.job_id)
        if stage.reads_prompts and follow_up is not None and follow_up.prompts is not None:
            fetch_prompts(self._journal, exchange, follow_up.prompts)
