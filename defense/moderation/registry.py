"""Opens the moderation classifier that an operator configured."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from defense.moderation.embedded import EmbeddedClassifier
from defense.moderation.protocol import ModerationClassifier, ModerationError
from defense.moderation.sequence_classifier import SequenceClassifier, SequenceClassifierSettings


class Backend(StrEnum):
    """The kinds of classifier there are."""

    EMBEDDED = "embedded"  # in the distribution; small and fast
    SEQUENCE_CLASSIFIER = "sequence_classifier"  # any multi-label Hugging Face classifier


@dataclass(frozen=True)
class ClassifierSource:
    """Which classifier to open.

    Attributes:
        backend: One of `Backend`.
        head_folder: Where the embedded head and its card lie; every back end needs them, since
            refusals and broken text are told apart in one place.
        model: For `sequence_classifier`: a folder or hub id.
        revision: For `sequence_classifier`: a commit of the hub repository.
        device: Where to compute.
    """

    backend: str
    head_folder: Path
    model: str | None = None
    revision: str | None = None
    device: str = "cpu"


def load_classifier(source: ClassifierSource) -> ModerationClassifier:
    """Open the classifier, ready to judge.

    Raises:
        ModerationError: The back end is unknown, or its weights are missing or unreadable.
    """
    if source.backend not in set(Backend):
        known = ", ".join(Backend)
        raise ModerationError(f"unknown moderation back end {source.backend!r}; there are: {known}")
    embedded = EmbeddedClassifier(source.head_folder, source.device)
    if source.backend == Backend.EMBEDDED:
        return embedded
    if not source.model:
        raise ModerationError("the sequence_classifier back end needs a model: a folder or hub id")
    settings = SequenceClassifierSettings(source.model, source.revision, source.device)
    return SequenceClassifier(settings, embedded)
