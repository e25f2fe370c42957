"""The operator's moderation classifier, with what can go wrong while it is opened told apart."""

from collections.abc import Callable

import structlog

from core.errors import TunewardError, is_disk_fault
from core.job_state import JobErrorCode
from defense.moderation.protocol import ModerationClassifier, ModerationError
from defense.moderation.registry import ClassifierSource, load_classifier
from worker.hub import HubUnavailableError, chain_of, hub_is_away

_log = structlog.get_logger(__name__)


class ClassifierError(TunewardError):
    """The moderation classifier that the operator configured can't be used."""

    code = JobErrorCode.MODERATION_FAILED


def open_classifier(
    source: ClassifierSource,
    load: Callable[[ClassifierSource], ModerationClassifier] = load_classifier,
) -> ModerationClassifier:
    """Open the classifier, ready to judge.

    Args:
        source: Which one; its model may be a hub id, which is downloaded at the first use.
        load: Opens it; another one in tests.

    Raises:
        HubUnavailableError: It has to be downloaded, and the hub does not answer.
        ClassifierError: It is not where the operator says, or is none.
        OSError: The disk is full or failing.
    """
    try:
        return load(source)
    except Exception as error:
        if hub_is_away(error):
            _log.exception("hub_unavailable")
            raise HubUnavailableError(
                "The hub that holds the moderation classifier does not answer."
            ) from error
        fault = next(filter(is_disk_fault, chain_of(error)), None)
        if fault is not None:
            raise fault from None
        if not isinstance(error, ModerationError):
            raise
        # Its words may name the operator's folder.
        _log.exception("classifier_unavailable", backend=source.backend, model=source.model)
        raise ClassifierError(
            "The moderation classifier can't be loaded on this worker.",
            hint="The operator's log says why.",
        ) from error
