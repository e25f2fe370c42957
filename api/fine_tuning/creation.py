"""Creating a job: check all that was asked for, then write job, events and wake-up at once.

Nothing is written unless the request is right. A training file with mistakes is no wrong request:
its job is created, failed, and says which line to mend.
"""

import secrets
from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.checkpoints.choice import kept_epochs
from api.fine_tuning.job_files import find_file, find_initial_adapter
from api.fine_tuning.job_plan import JobPlan
from api.fine_tuning.parent_models import find_parent
from api.fine_tuning.recording import JobRecorder, fingerprint
from api.fine_tuning.repetition import Repetition
from api.fine_tuning.requested_defense import read_defense
from api.fine_tuning.schemas import FineTuningJobCreate, MethodRequest
from api.fine_tuning.unusable_files import FileError, JobFiles
from core.errors import InvalidRequestError, NotFoundError, RequestErrorCode
from core.estimation.workload import JobSize
from core.hyperparameter_resolution import resolve_hyperparameters
from core.job_spec import (
    MAX_SEED,
    Hyperparameters,
    InitialAdapter,
    JobSpec,
    ParentModel,
    RequestedDpoHyperparameters,
    RequestedHyperparameters,
)
from core.job_state import JobStatus
from core.model_registry import ModelEntry, ModelRegistry
from core.models import EventLevel, File, Job
from core.repositories.job_events import JobEventRepository
from core.repositories.jobs import JobRepository, NewJob
from core.screening import Screening
from core.settings import Settings


@dataclass(frozen=True)
class JobCreator:
    """Creates jobs of one project within one transaction."""

    session: Session
    project_id: str
    registry: ModelRegistry
    settings: Settings

    def plan(self, request: FineTuningJobCreate) -> JobPlan:
        """Say what the job would be; nothing is written.

        Raises:
            InvalidRequestError: A value is wrong; `param` is its path.
            NotFoundError: There is no such file in this project.
        """
        entry, parent = self._model(request.model)
        training_file = self._file(request.training_file, "training_file")
        validation_file = (
            None
            if request.validation_file is None
            else self._file(request.validation_file, "validation_file")
        )
        spec = self._resolve(request, entry, parent, training_file)
        return JobPlan(
            spec,
            JobFiles.of(training_file, validation_file, entry, spec),
            JobSize.of(training_file, validation_file, self.settings),
        )

    def earlier(self, request: FineTuningJobCreate, repeated: Repetition) -> Job | None:
        """Find the job that the same request created before."""
        return self._recorder.earlier(_fingerprint(request), repeated)

    def create(
        self, request: FineTuningJobCreate, repeated: Repetition, error: FileError | None
    ) -> Job:
        """Create the job, or return the one that the same request created before.

        Args:
            request: What was asked for.
            repeated: Whether it was asked before.
            error: What is wrong with the job's files; the job is then created failed.

        Raises:
            InvalidRequestError: A value is wrong; `param` is its path.
            NotFoundError: There is no such file in this project.
            QuotaExceededError: As many of the project's jobs wait as may.
        """
        earlier = self._recorder.earlier_alone(_fingerprint(request), repeated)
        if earlier is not None:
            return earlier
        job = self.plan(request)
        told = job.estimate(self.session, self.registry, self.settings).stored()
        new = NewJob(
            model=request.model,
            training_file=request.training_file,
            validation_file=request.validation_file,
            seed=job.spec.seed,
            spec=job.spec.stored(),
            suffix=request.suffix,
            metadata=request.metadata,
            status=JobStatus.QUEUED if error is None else JobStatus.VALIDATING_FILES,
            idempotency_key=repeated.idempotency_key,
            request_sha256=_fingerprint(request),
            estimate=told if error is None else None,
        )
        return self._add(new, error)

    def _resolve(
        self,
        request: FineTuningJobCreate,
        entry: ModelEntry,
        parent: ParentModel | None,
        training_file: File,
    ) -> JobSpec:
        method = _method(request)
        initial = self._initial_adapter(method, parent)
        if initial is not None:  # it takes the aligned adapter's place, whose shape says nothing
            entry = entry.model_copy(update={"aligned_adapter": None})
        hyperparameters = self._hyperparameters(request, entry, training_file)
        checkpoints = method.options.checkpoints
        return JobSpec(
            model=entry.id,
            parent=parent,
            initial_adapter=initial,
            method=method.type,
            hyperparameters=hyperparameters,
            checkpoints=kept_epochs(
                None if checkpoints is None else checkpoints.keep,
                _epochs_begun(hyperparameters, training_file),
                self.settings,
                method.type,
            ),
            defense=read_defense(method.options.defense, f"method.{method.type}.defense"),
            screening=method.options.screening or Screening(policy=self.settings.screening_policy),
            seed=secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed,
        )

    @property
    def _recorder(self) -> JobRecorder:
        return JobRecorder(self.session, self.project_id, self.settings)

    def _add(self, new: NewJob, error: FileError | None) -> Job:
        if error is not None:
            return self._refuse(JobRepository(self.session).add(self.project_id, new), error)
        job = self._recorder.add(new)
        return self._recorder.announce(job, "Files validated, moving job to queued state")

    def _refuse(self, job: Job, refused: FileError) -> Job:
        events = JobEventRepository(self.session)
        events.append(job.id, message=f"Created fine-tuning job: {job.id}")
        error = refused.error
        data = {"error": error, "rows": list(refused.rows)} if refused.rows else {"error": error}
        events.append(job.id, message=error["message"], level=EventLevel.ERROR, data=data)
        return JobRepository(self.session).mark_failed(self.project_id, job.id, error)

    def _model(self, model_id: str) -> tuple[ModelEntry, ParentModel | None]:
        try:
            if model_id in self.registry:
                return self.registry.get(model_id), None
            return find_parent(self.session, self.project_id, self.registry, model_id)
        except NotFoundError as error:
            raise InvalidRequestError(
                "The model is not available for fine-tuning.",
                param="model",
                code=RequestErrorCode.MODEL_NOT_AVAILABLE,
                hint=error.hint,
            ) from None

    def _file(self, file_id: str, param: str) -> File:
        return find_file(self.session, self.project_id, file_id, param)

    def _initial_adapter(
        self, method: MethodRequest, parent: ParentModel | None
    ) -> InitialAdapter | None:
        file_id = method.options.initial_adapter
        if file_id is None:
            return None
        return find_initial_adapter(
            self.session,
            self.project_id,
            file_id,
            f"method.{method.type}.initial_adapter",
            max_bytes=self.settings.max_initial_adapter_bytes,
            continues_model=parent is not None,
        )

    def _hyperparameters(
        self, request: FineTuningJobCreate, entry: ModelEntry, training_file: File
    ) -> Hyperparameters:
        requested, place = _requested_hyperparameters(request)
        report = training_file.validation or {}
        try:
            return resolve_hyperparameters(
                requested,
                entry,
                usable_rows=report.get("usable_rows", 0),
                max_sequence_tokens=self.settings.max_sequence_tokens,
            )
        except InvalidRequestError as error:
            raise InvalidRequestError(
                error.message, param=f"{place}.{error.param}", code=error.code, hint=error.hint
            ) from None


def _method(request: FineTuningJobCreate) -> MethodRequest:
    return request.method or MethodRequest()


def _requested_hyperparameters(
    request: FineTuningJobCreate,
) -> tuple[RequestedHyperparameters, str]:
    """Take the hyperparameters from the place that has them, old or new."""
    method = _method(request)
    new_place = f"method.{method.type}.hyperparameters"
    requested = method.options.hyperparameters
    if request.hyperparameters is None:
        default = RequestedDpoHyperparameters if method.type == "dpo" else RequestedHyperparameters
        return requested or default(), new_place
    if method.type != "supervised":
        raise InvalidRequestError(
            f"hyperparameters are those of supervised jobs; the method is {method.type}.",
            param="hyperparameters",
            code=RequestErrorCode.INVALID_HYPERPARAMETERS,
            hint=f"Write them under {new_place}.",
        )
    if requested not in (None, request.hyperparameters):
        raise InvalidRequestError(
            f"hyperparameters and {new_place} contradict each other.",
            param="hyperparameters",
            code=RequestErrorCode.INVALID_HYPERPARAMETERS,
            hint=f"Keep {new_place} only.",
        )
    return request.hyperparameters, "hyperparameters"


def _epochs_begun(wanted: Hyperparameters, training_file: File) -> int:
    """Tell how many epochs training begins, which `max_steps` may cut short."""
    if wanted.max_steps is None:
        return wanted.n_epochs
    rows = int((training_file.validation or {}).get("usable_rows", 0))
    steps_per_epoch = max(1, -(-rows // wanted.batch_size))
    return min(wanted.n_epochs, -(-wanted.max_steps // steps_per_epoch))


def _fingerprint(request: FineTuningJobCreate) -> str:
    return fingerprint(request.model_dump(mode="json"))
