"""A moderation classifier that can't be opened now is told from one that never can."""

import logging
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from core.resources import resource_path
from defense.moderation.protocol import ModerationClassifier, ModerationError
from defense.moderation.registry import ClassifierSource
from worker.classifier import ClassifierError, open_classifier
from worker.hub import HubUnavailableError
from worker.trainer import describe_failure

CANARY = "/srv/canary"
FULL_DISK = OSError(28, "No space left on device", CANARY)
SOURCE = ClassifierSource("sequence_classifier", Path("/nowhere"), model="org/name")


def response(status: int) -> httpx2.Response:
    return httpx2.Response(status, request=httpx2.Request("GET", "https://hub.invalid/canary"))


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def as_transformers_says(cause: Exception) -> Exception:
    """Hide what the hub's client raised as transformers and the classifier do."""
    return raised_from(ModerationError(CANARY), raised_from(OSError(CANARY), cause))


def failing_with(error: Exception) -> Callable[[ClassifierSource], ModerationClassifier]:
    def load(_: ClassifierSource) -> ModerationClassifier:
        raise error

    return load


@pytest.mark.parametrize(
    "error",
    [
        as_transformers_says(
            raised_from(LocalEntryNotFoundError(CANARY), httpx2.ConnectError(CANARY))
        ),
        as_transformers_says(
            raised_from(
                LocalEntryNotFoundError(CANARY), HfHubHTTPError(CANARY, response=response(503))
            )
        ),
        as_transformers_says(ConnectionResetError(104, CANARY)),
        httpx2.ReadTimeout(CANARY),
    ],
    ids=["no connection", "status 503", "connection reset", "time out in the middle"],
)
def test_a_hub_that_is_away_is_tried_again(error: Exception) -> None:
    with pytest.raises(HubUnavailableError) as raised:
        open_classifier(SOURCE, failing_with(error))

    failed = describe_failure(raised.value)
    assert (failed.code, failed.retryable) == ("service_unavailable", True)
    assert "canary" not in failed.model_dump_json()


@pytest.mark.parametrize(
    "error",
    [
        as_transformers_says(RepositoryNotFoundError(CANARY, response=response(404))),
        as_transformers_says(HfHubHTTPError(CANARY, response=response(401))),
        as_transformers_says(LocalEntryNotFoundError(CANARY)),
        as_transformers_says(OfflineModeIsEnabled(CANARY)),
        as_transformers_says(PermissionError(13, CANARY)),
        raised_from(ModerationError(CANARY), ValueError(CANARY)),
        ModerationError(CANARY),
    ],
    ids=["wrong id", "no access", "not cached", "offline", "no permission", "no model", "no wheel"],
)
def test_a_classifier_that_is_none_fails_at_once(error: Exception) -> None:
    with pytest.raises(ClassifierError) as raised:
        open_classifier(SOURCE, failing_with(error))

    failed = describe_failure(raised.value)
    assert (failed.code, failed.retryable) == ("moderation_failed", False)
    assert "canary" not in failed.model_dump_json()


@pytest.mark.parametrize(
    "error",
    [
        FULL_DISK,
        raised_from(ModerationError(CANARY), FULL_DISK),
        as_transformers_says(FULL_DISK),
        as_transformers_says(raised_from(LocalEntryNotFoundError(CANARY), FULL_DISK)),
    ],
    ids=["bare", "in one", "in two", "in three"],
)
def test_a_full_disk_stays_a_full_disk_however_deep_it_is_hidden(error: Exception) -> None:
    with pytest.raises(OSError, match="No space") as raised:
        open_classifier(SOURCE, failing_with(error))

    assert describe_failure(raised.value).code == "storage_unavailable"


def test_a_fault_of_our_own_is_not_blamed_on_anybody() -> None:
    with pytest.raises(TypeError):
        open_classifier(SOURCE, failing_with(TypeError("wrong argument")))


def test_the_embedded_classifier_opens_without_a_word_about_weights_it_does_not_need(
    caplog: pytest.LogCaptureFixture,
) -> None:
    library = logging.getLogger("transformers")  # does not propagate
    library.addHandler(caplog.handler)

    open_classifier(ClassifierSource("embedded", resource_path("moderation")))

    library.removeHandler(caplog.handler)
    assert caplog.text == ""
