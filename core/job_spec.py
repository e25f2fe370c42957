"""What a job does, resolved: every "auto" is a number, every default is written out.

`RequestedHyperparameters` is what a client may ask for; `JobSpec` is what the worker runs and what
`jobs.spec` stores.
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    model_validator,
)

from core.follow_up import FollowUp
from core.model_registry import ModuleName
from core.screening import DEFAULT_SCREENING, Screening
from core.spec_versions import FOLLOW_UP_VERSION
from defense.job_defense import DEFAULT_DEFENSE, JobDefense, parse_defense

MAX_SEED: Final = 2**31 - 1
MAX_EPOCHS: Final = 50
MAX_CHECKPOINTS: Final = MAX_EPOCHS - 1
AUTO_EPOCHS: Final = 2
AUTO_BATCH_SIZE: Final = 4
MAX_LORA_RANK: Final = 256
AUTO_BETA: Final = 0.1
# A pair moves whole answers at once, so a tenth of the rate that suits single tokens is enough.
AUTO_DPO_MULTIPLIER: Final = 0.1

Method = Literal["supervised", "dpo"]


def _auto_is_none(value: object) -> object:
    return None if value == "auto" else value


def _auto_schema(schema: dict[str, Any]) -> None:
    """Describe `"auto"` in the API reference, where the code has None."""
    schema["anyOf"] = [{"const": "auto", "type": "string"}, *schema.pop("anyOf", [])]
    schema["default"] = "auto"


def _auto(description: str) -> Any:  # noqa: ANN401  (pydantic types Field() as Any)
    return Field(default=None, description=description, json_schema_extra=_auto_schema)


_Auto = BeforeValidator(_auto_is_none)
_Epochs = Annotated[int, Field(strict=True, ge=1, le=MAX_EPOCHS)]
_BatchSize = Annotated[int, Field(strict=True, ge=1, le=256)]
_Multiplier = Annotated[float, Field(strict=True, gt=0, le=1000, allow_inf_nan=False)]
_LearningRate = Annotated[float, Field(strict=True, gt=0, le=0.1, allow_inf_nan=False)]
_Rank = Annotated[int, Field(strict=True, ge=1, le=MAX_LORA_RANK)]
_Alpha = Annotated[float, Field(strict=True, gt=0, le=4096, allow_inf_nan=False)]
_Beta = Annotated[float, Field(strict=True, gt=0, le=2, allow_inf_nan=False)]
_Steps = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
_Tokens = Annotated[int, Field(strict=True, ge=1)]
_Targets = Annotated[list[ModuleName], Field(min_length=1, max_length=32)]


class RequestedHyperparameters(BaseModel):
    """Hyperparameters as a client writes them; what is left out is `"auto"`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_epochs: Annotated[_Epochs | None, _Auto] = _auto(
        f"Passes over the training file; auto: {AUTO_EPOCHS}."
    )
    batch_size: Annotated[_BatchSize | None, _Auto] = _auto(
        f"Rows per optimizer step; auto: {AUTO_BATCH_SIZE}, or fewer if the file has fewer."
    )
    learning_rate_multiplier: Annotated[_Multiplier | None, _Auto] = _auto(
        "Factor on the model's default learning rate; auto: 1."
    )
    learning_rate: Annotated[_LearningRate | None, _Auto] = _auto(
        "The learning rate itself; with `learning_rate_multiplier` only where both say the same. "
        "Auto: the model's."
    )
    lora_rank: Annotated[_Rank | None, _Auto] = _auto(
        "Rank of the adapter; at least that of the adapter the job continues. Auto: the model's."
    )
    lora_alpha: Annotated[_Alpha | None, _Auto] = _auto(
        "Scale of the adapter; alpha / rank multiplies its output. Auto: in the model's ratio."
    )
    target_modules: Annotated[_Targets | None, _Auto] = _auto(
        "Linear layers to adapt; at least those of a continued adapter. Auto: the model's."
    )
    max_steps: Annotated[_Steps | None, _Auto] = _auto(
        "Stop after so many optimizer steps; auto: after all epochs."
    )
    max_sequence_tokens: Annotated[_Tokens | None, _Auto] = _auto(
        "The longest row, which the model and the operator decide; no other value is accepted."
    )


class RequestedDpoHyperparameters(RequestedHyperparameters):
    """Hyperparameters of preference training as a client writes them."""

    beta: Annotated[_Beta | None, _Auto] = _auto(
        f"How firmly the model is held to what it was; higher moves it less. Auto: {AUTO_BETA}."
    )
    learning_rate_multiplier: Annotated[_Multiplier | None, _Auto] = _auto(
        f"Factor on the model's default learning rate; auto: {AUTO_DPO_MULTIPLIER}."
    )


class Hyperparameters(BaseModel):
    """Hyperparameters as the trainer uses them. `max_steps` None means all epochs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    learning_rate: float
    lora_rank: int
    lora_alpha: float
    target_modules: tuple[str, ...]
    max_steps: int | None = None
    max_sequence_tokens: int


class DpoHyperparameters(Hyperparameters):
    """Hyperparameters of preference training as the trainer uses them."""

    beta: float


class ParentModel(BaseModel):
    """A tuned model of the project that a job continues. `sha256` is that of its archive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    job_id: str
    file_id: str
    sha256: str


class InitialAdapter(BaseModel):
    """An adapter of the project's own that a job begins with. `sha256` is that of its archive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file_id: str
    sha256: str


class JobSpec(BaseModel):
    """Everything that decides what a job computes, besides its files.

    `model` is the base model; `parent` is the tuned model on it that the job continues, if any, and
    `initial_adapter` one that was uploaded. There is one of the two at most.
    `checkpoints` is how many epochs before the last are kept as checkpoints.
    A job with a `follow_up` trains nothing, and has `FOLLOW_UP_VERSION`: see `core.spec_versions`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1, 2] = 1
    model: str
    follow_up: FollowUp | None = None
    parent: ParentModel | None = None
    initial_adapter: InitialAdapter | None = None
    method: Method = "supervised"
    hyperparameters: DpoHyperparameters | Hyperparameters
    defense: dict[str, JsonValue]
    screening: Screening = DEFAULT_SCREENING
    checkpoints: int = Field(default=0, ge=0, le=MAX_CHECKPOINTS)
    seed: int = Field(ge=0, le=MAX_SEED)

    @model_validator(mode="after")
    def _one_method(self) -> Self:
        if isinstance(self.hyperparameters, DpoHyperparameters) != (self.method == "dpo"):
            msg = "only preference training has a beta"
            raise ValueError(msg)
        if (self.follow_up is not None) != (self.version == FOLLOW_UP_VERSION):
            msg = "follow-up jobs, and only they, have a version of their own"
            raise ValueError(msg)
        return self

    def stored(self) -> dict[str, JsonValue]:
        """Give what `jobs.spec` keeps: a process of an earlier release reads it, too.

        So what such a process does not know is left out where it says nothing.
        """
        usual = {
            "follow_up": None,
            "parent": None,
            "initial_adapter": None,
            "screening": DEFAULT_SCREENING,
            "checkpoints": 0,
        }
        unused = {name for name, value in usual.items() if getattr(self, name) == value}
        return self.model_dump(mode="json", exclude=unused)

    def option_path(self, name: str) -> str:
        """Name the place of an option of the method in a request."""
        return f"method.{self.method}.{name}"

    def job_defense(self) -> JobDefense:
        """Return the defense as its typed configuration."""
        return parse_defense(self.defense)


def resolve_defense(requested: dict[str, Any] | None) -> dict[str, JsonValue]:
    """Fill in a defense's defaults; no defense asked for means the catalogue's default.

    Raises:
        InvalidConfigError: Unknown defense or option, or a value out of range.
    """
    return parse_defense(DEFAULT_DEFENSE if requested is None else requested).dump()
