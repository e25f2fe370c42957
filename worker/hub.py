"""Downloads from a model hub, with what can go wrong sorted into two kinds.

A hub that does not answer may answer the next attempt; a repository, revision or file that is not
there never will be.
"""

from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Final, TypeVar

import structlog
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from core.errors import UnavailableError, is_disk_fault

T = TypeVar("T")

_PASSING_STATUSES: Final = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})

# The HTTP library beneath the hub's client has changed before, and its errors with it.
_HTTP_LIBRARIES: Final = frozenset({"httpx", "httpx2", "httpcore", "httpcore2"})

# What says for sure how a download failed; any other OSError may be a wrapper's.
_OF_THE_CLIENT: Final = (
    HfHubHTTPError,
    EntryNotFoundError,
    OfflineModeIsEnabled,
    ConnectionError,
    TimeoutError,
)

_log = structlog.get_logger(__name__)


class HubUnavailableError(UnavailableError):
    """The hub or the network to it does not answer; the next attempt may fare better."""


def from_hub(download: Callable[[], T]) -> T:
    """Download, and tell a hub that is away from one that lacks what was asked for.

    Raises:
        HubUnavailableError: The hub or the network failed.
        OSError: There is no such thing there, or this machine may not or cannot have it.
        ValueError: The name is not one that a hub can have.
    """
    try:
        return download()
    except Exception as error:
        if _may_pass(error):
            _log.exception("hub_unavailable")
            raise HubUnavailableError(
                "The hub that holds a file of this service does not answer."
            ) from error
        if isinstance(error, EntryNotFoundError):  # not always an OSError
            raise FileNotFoundError(str(error)) from error
        raise


def hub_is_away(error: Exception) -> bool:
    """Whether an error, or one that it came from, says that the hub or the network failed.

    For libraries that download by themselves: they hide what the hub's client raised behind errors
    of their own, whose kind tells nothing.
    """
    for link in chain_of(error):
        if isinstance(link, _OF_THE_CLIENT) or _is_of_http_library(link):
            return _may_pass(link)
    return False


def chain_of(error: Exception) -> Iterator[Exception]:
    """Give an error, what it came from, and so on down to the first cause."""
    link: BaseException | None = error
    while isinstance(link, Exception):
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _is_of_http_library(error: Exception) -> bool:
    return type(error).__module__.partition(".")[0] in _HTTP_LIBRARIES


def _may_pass(error: Exception) -> bool:
    match error:
        case HfHubHTTPError():
            status = error.response.status_code
            return status in _PASSING_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        case LocalEntryNotFoundError():
            # What the client says when the hub is away, and, without a cause, when it may not ask.
            return isinstance(error.__cause__, Exception) and _may_pass(error.__cause__)
        case EntryNotFoundError() | OfflineModeIsEnabled() | PermissionError():
            return False
        case OSError():
            return not is_disk_fault(error)
    return _is_of_http_library(error)
