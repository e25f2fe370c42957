"""What the gateway asks of the inference process, and what that answers: JSON over HTTP.

Answers to conversations are lines of JSON, one `AnswerLine` each: `started`, then any number of
`text`, then `ended` or `failed`. What goes wrong before `started` is an HTTP status with a
`Refusal`.
"""

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

HEALTH_PATH: Final = "/health"
MODERATIONS_PATH: Final = "/moderations"
EMBEDDINGS_PATH: Final = "/embeddings"
ANSWERS_PATH: Final = "/answers"
# On whose behalf the gateway asks; projects share what the process can do.
PROJECT_HEADER: Final = "tuneward-project"


class _Word(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TextsToJudge(_Word):
    """Texts for the moderation classifier."""

    texts: tuple[str, ...]


class JudgedText(_Word):
    """What the classifier says of one text; `scores` lacks the kinds it cannot judge."""

    flagged: bool
    categories: tuple[str, ...]
    scores: dict[str, float]


class JudgedTexts(_Word):
    """One verdict per text, and which classifier gave them."""

    classifier: str
    results: tuple[JudgedText, ...]


class TextsToEmbed(_Word):
    """Texts to be compared by their meaning."""

    texts: tuple[str, ...]


class EmbeddedTexts(_Word):
    """One vector of length 1 per text."""

    vectors: tuple[tuple[float, ...], ...]


class ReleasedAdapter(_Word):
    """An archive that passed the gate."""

    storage_key: str
    sha256: str


class ServedModel(_Word):
    """A base model of the registry, alone or with a released adapter."""

    base_model: str
    adapter: ReleasedAdapter | None = None


class Turn(_Word):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


class AnswerRequest(_Word):
    """A conversation to be continued; `seed` is drawn where there is none."""

    model: ServedModel
    messages: tuple[Turn, ...]
    max_tokens: int
    temperature: float
    top_p: float
    stop: tuple[str, ...] = ()
    seed: int | None = None


class AnswerStarted(_Word):
    """The model is loaded; `fingerprint` tells its exact weights, adapter included."""

    kind: Literal["started"] = "started"
    prompt_tokens: int
    fingerprint: str


class AnswerText(_Word):
    """The next piece of the answer."""

    kind: Literal["text"] = "text"
    text: str


class AnswerEnded(_Word):
    """The answer is complete, or as long as it may be."""

    kind: Literal["ended"] = "ended"
    finish_reason: Literal["stop", "length"]
    completion_tokens: int


class AnswerFailed(_Word):
    """The answer broke off."""

    kind: Literal["failed"] = "failed"


AnswerLine = AnswerStarted | AnswerText | AnswerEnded | AnswerFailed
ANSWER_LINE: Final[TypeAdapter[AnswerLine]] = TypeAdapter(
    Annotated[AnswerLine, Field(discriminator="kind")]
)


class Refusal(_Word):
    """Why the inference process does not do what it was asked."""

    code: str
    message: str
