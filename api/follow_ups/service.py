"""Creating jobs that take over another job's training, and train nothing themselves."""

from dataclasses import dataclass

from pydantic import BaseModel
from sqlalchemy.orm import Session

from api.files.schemas import UploadPurpose
from api.fine_tuning.job_files import find_file
from api.fine_tuning.recording import JobRecorder, fingerprint
from api.fine_tuning.repetition import Repetition
from api.fine_tuning.schemas import FineTuningJob
from api.fine_tuning.service import show
from api.follow_ups.schemas import SafetyRerunRequest, StrengthRequest
from api.state import GatewayState
from core.analyses import Analysis
from core.datasets.prompts import read_prompts
from core.errors import InvalidRequestError, NotFoundError, RequestErrorCode
from core.estimation.workload import JobSize
from core.follow_up import TAKEN_OVER, FollowUp, FollowUpKind, PromptsFile
from core.job_estimates import JobEstimator
from core.job_spec import JobSpec
from core.job_state import TERMINAL
from core.models import File, Job
from core.repositories.artifacts import ArtifactRepository
from core.repositories.files import FileRepository
from core.repositories.jobs import JobRepository, NewJob
from core.spec_versions import FOLLOW_UP_VERSION


def change_strength(
    state: GatewayState,
    session: Session,
    project_id: str,
    job_id: str,
    request: StrengthRequest,
    repeated: Repetition,
) -> FineTuningJob:
    """Create a job with another strength, or show the one that the same request created before.

    Raises:
        InvalidRequestError: The job was not judged, has no perturbation, or is no longer kept.
        NotFoundError: There is no such job.
        QuotaExceededError: As many of the project's jobs wait as may.
    """
    follow_up = FollowUp(
        kind=FollowUpKind.STRENGTH, job_id=job_id, strength=float(request.strength)
    )
    return _Follower(state, session, project_id).create(follow_up, request, None, repeated)


def rerun_safety(
    state: GatewayState,
    session: Session,
    project_id: str,
    job_id: str,
    request: SafetyRerunRequest,
    repeated: Repetition,
) -> FineTuningJob:
    """Create a job that judges again, or show the one that the same request created before.

    Raises:
        InvalidRequestError: The job was not judged or is no longer kept, or the prompts are wrong.
        NotFoundError: There is no such job, or no such file of prompts.
        QuotaExceededError: As many of the project's jobs wait as may.
    """
    include = tuple(Analysis(name) for name in dict.fromkeys(request.include))
    follow_up = FollowUp(kind=FollowUpKind.SAFETY, job_id=job_id, include=include)
    follower = _Follower(state, session, project_id)
    return follower.create(follow_up, request, request.prompts, repeated)


@dataclass(frozen=True)
class _Origin:
    """The job that is followed up; its row is locked, so what is kept of it stays."""

    job: Job
    spec: JobSpec
    training_file: File
    validation_file: File | None


@dataclass(frozen=True)
class _Follower:
    """Creates follow-up jobs of one project within one transaction."""

    state: GatewayState
    session: Session
    project_id: str

    def create(
        self,
        follow_up: FollowUp,
        request: BaseModel,
        prompts_file: str | None,
        repeated: Repetition,
    ) -> FineTuningJob:
        """Create the job, or show the one that the same request created before."""
        name = fingerprint([follow_up.kind, follow_up.job_id, request.model_dump(mode="json")])
        settings = self.state.settings
        recorder = JobRecorder(self.session, self.project_id, settings)
        earlier = recorder.earlier_alone(name, repeated)
        if earlier is not None:
            return show(self.session, settings, earlier)
        origin = self._origin(follow_up)
        if prompts_file is not None:
            prompts = self._prompts(prompts_file)
            follow_up = follow_up.model_copy(update={"prompts": prompts})
        job = recorder.add(self._new_job(origin, follow_up, name, repeated))
        return show(self.session, settings, recorder.announce(job, follow_up.sentence()))

    def _origin(self, follow_up: FollowUp) -> _Origin:
        try:
            job = JobRepository(self.session).get(self.project_id, follow_up.job_id, lock=True)
        except NotFoundError:
            raise NotFoundError("There is no such job.", param="fine_tuning_job_id") from None
        _require_judged(job)
        spec = JobSpec.model_validate(job.spec)
        if follow_up.kind is FollowUpKind.STRENGTH and spec.job_defense().ending is None:
            raise InvalidRequestError(
                "The job has no perturbation, because its defense has none.",
                param="fine_tuning_job_id",
                code=RequestErrorCode.NO_PERTURBATION,
                hint="Create it again with a defense that moves the trained adapter.",
            )
        if spec.model not in self.state.registry:
            raise InvalidRequestError(
                "The base model of the job is no longer available.",
                param="fine_tuning_job_id",
                code=RequestErrorCode.MODEL_NOT_AVAILABLE,
            )
        return self._kept(job, spec)

    def _kept(self, job: Job, spec: JobSpec) -> _Origin:
        """Find what the follow-up job reads, or say that it is gone."""
        retention = self.state.settings.training_retention
        kept = ArtifactRepository(self.session).list_kept(retention, job.id).get(job.id, {})
        if job.model_deleted_at is not None or not kept.keys() >= set(TAKEN_OVER):
            days = retention.total_seconds() / 86_400
            raise _not_kept(
                f"The job's weights are no longer kept apart: they are for {days:g} days, unless "
                "its model is deleted."
            )
        files = FileRepository(self.session)
        try:
            training = files.get(self.project_id, job.training_file)
            validation = job.validation_file and files.get(self.project_id, job.validation_file)
        except NotFoundError:
            raise _not_kept("The job's training or validation file was deleted.") from None
        return _Origin(job, spec, training, validation or None)

    def _prompts(self, file_id: str) -> PromptsFile:
        purpose = UploadPurpose.USER_DATA
        file = find_file(self.session, self.project_id, file_id, "prompts", purpose)
        with self.state.storage.open(file.storage_key) as stream:
            count = sum(1 for _ in read_prompts(stream, self.state.settings.max_row_bytes))
        return PromptsFile(file_id=file.id, sha256=file.sha256, prompts=count)

    def _new_job(
        self, origin: _Origin, follow_up: FollowUp, name: str, repeated: Repetition
    ) -> NewJob:
        before, settings = origin.job, self.state.settings
        spec = origin.spec.model_copy(
            update={"version": FOLLOW_UP_VERSION, "follow_up": follow_up, "checkpoints": 0}
        )
        size = JobSize.of(origin.training_file, origin.validation_file, settings)
        estimate = JobEstimator(self.state.registry, settings).estimate(self.session, spec, size)
        return NewJob(
            model=before.model,
            training_file=before.training_file,
            validation_file=before.validation_file,
            seed=before.seed,
            spec=spec.stored(),
            suffix=before.suffix,
            metadata=before.job_metadata,
            idempotency_key=repeated.idempotency_key,
            request_sha256=name,
            estimate=estimate.stored(),
            trained_tokens=0,
        )


def _require_judged(job: Job) -> None:
    if job.status not in TERMINAL:
        message, hint = "The job is not finished.", "Wait until its adapter is judged."
    elif job.safety is None:
        message, hint = "The job ended without an adapter that was judged.", "Create it again."
    else:
        return
    raise InvalidRequestError(
        message, param="fine_tuning_job_id", code=RequestErrorCode.JOB_NOT_JUDGED, hint=hint
    )


def _not_kept(message: str) -> InvalidRequestError:
    return InvalidRequestError(
        message,
        param="fine_tuning_job_id",
        code=RequestErrorCode.TRAINING_NOT_KEPT,
        hint="Create the job again.",
    )
