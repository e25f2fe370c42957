"""Fine-tuning jobs and their events on the wire, in OpenAI's shapes.

Requests refuse unknown keys: a misspelled option is an error, and nobody sets a field by guessing
its name. Answers carry every field of the contract, and ours beside them.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

from api.fine_tuning.estimate_schemas import JobEstimateObject
from api.follow_ups.schemas import FollowUpObject
from api.pagination import ListedObject
from core.job_spec import (
    MAX_CHECKPOINTS,
    MAX_SEED,
    DpoHyperparameters,
    Hyperparameters,
    Method,
    RequestedDpoHyperparameters,
    RequestedHyperparameters,
)
from core.job_state import JobStatus
from core.models import EventLevel, EventType
from core.screening import Screening
from core.stages import Stage

_MAX_METADATA_PAIRS: Final = 16

MetadataKey = Annotated[str, Field(min_length=1, max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]
FileId = Annotated[str, Field(min_length=1, max_length=96, pattern=r"^[0-9A-Za-z_-]+$")]

CREATE_EXAMPLE: Final = {
    "model": "smollm2-135m-instruct",
    "training_file": "file-8dJ2mPqRs7tUvWxYz0a1B2c3",
    "suffix": "support",
    "method": {
        "type": "supervised",
        "supervised": {
            "hyperparameters": {"n_epochs": 3, "batch_size": 8, "lora_rank": 8},
            "defense": {"type": "panacea", "post_fine_tuning": {"type": "alignment_merge"}},
        },
    },
}


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CheckpointsRequest(_Request):
    """Which epochs become models of their own."""

    keep: Annotated[int, Field(strict=True, ge=0, le=MAX_CHECKPOINTS)] = Field(
        description="How many epochs before the last; the server sets a lower limit."
    )


class _Guarded(_Request):
    defense: dict[str, JsonValue] | None = Field(
        default=None,
        description="`type` names a defense of `GET /v1/defenses`, which lists its options too. "
        "One that acts in fine-tuning may carry another, for afterwards, as `post_fine_tuning`. "
        "Without a defense: `alignment_merge` after plain fine-tuning.",
        examples=[{"type": "panacea", "post_fine_tuning": {"type": "alignment_merge"}}],
    )
    initial_adapter: FileId | None = Field(
        default=None,
        description="Id of a file with purpose `user_data`: the tar of a PEFT LoRA adapter of this "
        "base model, from which training begins.",
    )
    screening: Screening | None = Field(
        default=None, description="What becomes of rows that moderation flags, before training."
    )
    checkpoints: CheckpointsRequest | None = Field(
        default=None,
        description="Epochs to keep, each judged as the final adapter is; the server's default "
        "without it.",
    )


class SupervisedMethodRequest(_Guarded):
    """Supervised fine-tuning, and the defense it runs under."""

    hyperparameters: RequestedHyperparameters | None = None


class DpoMethodRequest(_Guarded):
    """Direct preference optimization, and the defense it runs under."""

    hyperparameters: RequestedDpoHyperparameters | None = None


class MethodRequest(_Request):
    """How to train: the type, and the options under its name."""

    type: Method = "supervised"
    supervised: SupervisedMethodRequest | None = None
    dpo: DpoMethodRequest | None = None

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_is_null(cls, asked: object) -> object:
        # Clients whose type of a method knows `reinforcement` write it beside the others.
        if isinstance(asked, dict) and asked.get("reinforcement", asked) is None:
            return {name: value for name, value in asked.items() if name != "reinforcement"}
        return asked

    @field_validator("supervised", "dpo")
    @classmethod
    def _is_of_this_type(cls, options: object, info: ValidationInfo) -> object:
        wanted = info.data.get("type", info.field_name)
        if options is not None and wanted != info.field_name:
            msg = f"method.type is {wanted}; write the options under method.{wanted}"
            raise ValueError(msg)
        return options

    @property
    def options(self) -> SupervisedMethodRequest | DpoMethodRequest:
        """What was asked of the method of this type."""
        if self.type == "dpo":
            return self.dpo or DpoMethodRequest()
        return self.supervised or SupervisedMethodRequest()


class FineTuningJobCreate(_Request):
    """What a client asks for."""

    model: str = Field(
        min_length=1,
        max_length=256,
        description="Id of a base model, or of an own tuned model to continue.",
    )
    training_file: FileId = Field(description="Id of a file with purpose `fine-tune`.")
    validation_file: FileId | None = Field(
        default=None, description="Id of a file of held-out rows, purpose `fine-tune`."
    )
    suffix: str | None = Field(
        default=None,
        min_length=1,
        max_length=64,
        pattern=r"^[0-9A-Za-z._-]+$",
        description="Becomes part of the tuned model's name.",
    )
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, strict=True, description="Chosen by the server if absent."
    )
    method: MethodRequest | None = None
    hyperparameters: RequestedHyperparameters | None = Field(
        default=None,
        json_schema_extra={"deprecated": True},  # `deprecated=True` would warn at our own reads
        description="The old place of `method.supervised.hyperparameters`.",
    )
    integrations: Annotated[list[JsonValue], Field(max_length=0)] | None = Field(
        default=None, description="None is offered: absent, null or empty."
    )
    metadata: dict[MetadataKey, MetadataValue] | None = Field(
        default=None, max_length=_MAX_METADATA_PAIRS, description="Your own labels."
    )


class JobErrorObject(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None


class CheckpointsObject(BaseModel):
    """Which epochs become models of their own."""

    keep: int = Field(description="How many epochs before the last.")


class SupervisedMethodObject(BaseModel):
    """Supervised fine-tuning with every value written out."""

    hyperparameters: Hyperparameters
    defense: dict[str, Any]
    initial_adapter: str | None = Field(description="Id of the adapter's file.")
    screening: Screening
    checkpoints: CheckpointsObject


class DpoMethodObject(BaseModel):
    """Direct preference optimization with every value written out."""

    hyperparameters: DpoHyperparameters
    defense: dict[str, Any]
    initial_adapter: str | None = Field(description="Id of the adapter's file.")
    screening: Screening
    checkpoints: CheckpointsObject


class SupervisedMethod(BaseModel):
    """The job learns the answers of its rows."""

    type: Literal["supervised"] = "supervised"
    supervised: SupervisedMethodObject


class DpoMethod(BaseModel):
    """The job learns which of two answers is better."""

    type: Literal["dpo"] = "dpo"
    dpo: DpoMethodObject


MethodObject = Annotated[SupervisedMethod | DpoMethod, Field(discriminator="type")]
"""How the job trains."""


class DefenseObject(BaseModel):
    """The defense the job runs under."""

    name: str
    params: dict[str, Any]


class QueueObject(BaseModel):
    """Where a waiting job stands."""

    position: int = Field(description="1 is next.")
    estimated_start: int | None = Field(
        description="Unix seconds, from the jobs ahead and the workers in use; null if it can't "
        "start as things are."
    )


class ProgressObject(BaseModel):
    """How far a job is."""

    stage: Stage
    step: int = Field(description="Optimizer steps done.")
    total_steps: int = Field(description="Optimizer steps in all.")
    percent: float = Field(description="Of the whole job, by the time its stages take; 0 to 100.")
    checkpoint: int | None = Field(
        default=None, description="Step of the checkpoint that is judged; null for the final model."
    )


class FineTuningJob(ListedObject):
    """A fine-tuning job."""

    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int = Field(description="Unix seconds.")
    finished_at: int | None
    status: JobStatus
    cancel_requested_at: int | None = Field(
        description="Unix seconds of the first request to cancel; a running job stops soon after."
    )
    pause_requested_at: int | None = Field(
        description="Unix seconds; not null while the job is paused, or is asked to pause."
    )
    error: JobErrorObject | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    training_file: str
    validation_file: str | None
    result_files: list[str] = Field(
        description="Files to download: metrics (CSV), then, for a job that succeeded, the "
        "adapter archive, then the safety report (JSON)."
    )
    hyperparameters: Hyperparameters | None = Field(
        description="Of a supervised job; null for others, which have theirs in `method`."
    )
    method: MethodObject
    seed: int
    trained_tokens: int | None
    estimated_finish: int | None = Field(description="Unix seconds. Of waiting and running jobs.")
    integrations: list[Any] = Field(default_factory=list)
    metadata: dict[str, str] | None
    user_provided_suffix: str | None
    progress: ProgressObject | None = Field(description="How far the job is, once it runs.")
    estimate: JobEstimateObject | None = Field(
        description="What the job was estimated to take when it was created."
    )
    queue: QueueObject | None = Field(description="Only while the job waits.")
    defense: DefenseObject
    follow_up: FollowUpObject | None = Field(
        description="Of a job that trains nothing: see `…/strength` and `…/safety/rerun`."
    )
    safety: dict[str, Any] | None = Field(description="The gate's verdict and its reasons.")


class FineTuningJobEvent(ListedObject):
    """One line of a job's history."""

    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: EventLevel
    message: str
    type: EventType
    data: dict[str, Any] | None
