"""Errors that cross a door between rooms.

TunewardError                    500  internal_error
├── InvalidRequestError          400  invalid_request
│   └── ConflictError            400  conflict            (409 would make clients retry)
├── AuthenticationError          401  invalid_api_key
├── PermissionDeniedError        403  permission_denied
├── NotFoundError                404  not_found
├── PayloadTooLargeError         413  payload_too_large
├── QuotaExceededError           429  insufficient_quota
├── RateLimitedError             429  rate_limit_exceeded       retryable
├── TransientError               503  temporarily_unavailable   retryable
│   ├── TooManyStreamsError      429  too_many_streams          retryable
│   ├── InferenceBusyError       429  inference_busy            retryable
│   ├── FilesBusyError           429  files_busy                retryable
│   └── UnavailableError         503  service_unavailable       retryable
│       ├── StorageUnavailableError    503  storage_unavailable    retryable
│       └── InferenceUnavailableError  503  inference_unavailable  retryable
├── ModelUnusableError           500  model_unusable
├── JobFailedError               500  internal_error, or the code given: ends a job for good
├── LeaseLostError               500  lease_lost: another worker holds the job now
└── StorageError                 500  storage_error
    ├── ObjectNotFoundError      500  object_not_found
    ├── InvalidStorageKeyError   500  invalid_storage_key
    └── StoragePermissionError   500  storage_permission

Each class carries a stable `code`, the HTTP `status`, the wire `type` and whether the same
attempt is worth repeating (`retryable`).
"""

import errno
from enum import StrEnum
from http import HTTPStatus
from typing import ClassVar, Final

# What a disk says when it is full, failing or away, rather than when a program errs.
_DISK_FAULTS: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE}
)


class RequestErrorCode(StrEnum):
    """What a request can be answered with more precisely than by the code of an error's class.

    A test finds each of them raised in the gateway or in core, and no other; the reference page
    says for each when it comes and what to do.
    """

    # The request as a whole.
    UNKNOWN_URL = "unknown_url"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    INVALID_VALUE = "invalid_value"
    INVALID_CURSOR = "invalid_cursor"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    # Who asks.
    INSUFFICIENT_SCOPE = "insufficient_scope"
    MISMATCHED_ORGANIZATION = "mismatched_organization"
    MISMATCHED_PROJECT = "mismatched_project"
    # Projects.
    PROJECT_NAME_TAKEN = "project_name_taken"
    # A body that is not strict JSON.
    INVALID_JSON = "invalid_json"
    INVALID_UTF8 = "invalid_utf8"
    BYTE_ORDER_MARK = "byte_order_mark"
    DUPLICATE_KEY = "duplicate_key"
    NESTED_TOO_DEEP = "nested_too_deep"
    NUMBER_NOT_FINITE = "number_not_finite"
    NUMBER_TOO_LONG = "number_too_long"
    NULL_CHARACTER = "null_character"
    LONE_SURROGATE = "lone_surrogate"
    # Files.
    INVALID_MULTIPART = "invalid_multipart"
    MISSING_REQUIRED_PARAMETER = "missing_required_parameter"
    UNSUPPORTED_PARAMETER = "unsupported_parameter"
    RANGE_NOT_SATISFIABLE = "range_not_satisfiable"
    FILE_IN_USE = "file_in_use"
    UPLOAD_NOT_PENDING = "upload_not_pending"
    INCOMPLETE_UPLOAD = "incomplete_upload"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    # Jobs and models.
    FILE_NOT_FOUND = "file_not_found"
    WRONG_FILE_PURPOSE = "wrong_file_purpose"
    INVALID_TRAINING_FILE = "invalid_training_file"
    INVALID_VALIDATION_FILE = "invalid_validation_file"
    MODEL_NOT_AVAILABLE = "model_not_available"
    MODEL_NOT_FOUND = "model_not_found"
    BASE_MODEL = "base_model"
    INVALID_HYPERPARAMETERS = "invalid_hyperparameters"
    INVALID_DEFENSE_CONFIG = "invalid_defense_config"
    UNSUPPORTED_GRADER = "unsupported_grader"
    JOB_NOT_CANCELLABLE = "job_not_cancellable"
    JOB_NOT_PAUSABLE = "job_not_pausable"
    JOB_NOT_PAUSED = "job_not_paused"
    ADAPTER_NOT_READY = "adapter_not_ready"
    NO_ADAPTER = "no_adapter"
    NO_REPORT = "no_report"
    NO_ATTRIBUTION = "no_attribution"
    JOB_NOT_JUDGED = "job_not_judged"
    NO_PERTURBATION = "no_perturbation"
    TRAINING_NOT_KEPT = "training_not_kept"
    INVALID_PROMPTS = "invalid_prompts"
    MODEL_POLICY_VIOLATION = "model_policy_violation"
    # Moderations and chats.
    UNSUPPORTED_CONTENT = "unsupported_content"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    # Webhooks.
    FORBIDDEN_WEBHOOK_URL = "forbidden_webhook_url"
    TOO_MANY_WEBHOOK_ENDPOINTS = "too_many_webhook_endpoints"


class TunewardError(Exception):
    """Base of every error Tuneward raises on purpose.

    Args:
        message: What went wrong, in words for the person who caused or reads it.
        param: The request field at fault, as a dotted path.
        code: A more precise stable code than the class's own.
        hint: What to do next.
    """

    code: str = "internal_error"
    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    type: ClassVar[str] = "server_error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.hint = hint
        if code is not None:
            self.code = str(code)  # an enum's member would be logged as one


class InvalidRequestError(TunewardError, ValueError):
    """The request cannot be served as it stands; repeating it changes nothing."""

    code = "invalid_request"
    status = HTTPStatus.BAD_REQUEST
    type = "invalid_request_error"


class ConflictError(InvalidRequestError):
    """The object's state forbids what was asked.

    Answered with 400: OpenAI clients repeat a 409, and this one never gets better.
    """

    code = "conflict"


class AuthenticationError(TunewardError):
    """No API key came with the request, or one that does not open anything."""

    code = "invalid_api_key"
    status = HTTPStatus.UNAUTHORIZED
    type = "authentication_error"


class PermissionDeniedError(TunewardError):
    """The API key is good but may not do this."""

    code = "permission_denied"
    status = HTTPStatus.FORBIDDEN
    type = "permission_error"


class NotFoundError(TunewardError, LookupError):
    """There is no such object in this project; another project's object looks the same."""

    code = "not_found"
    status = HTTPStatus.NOT_FOUND
    type = "not_found_error"


class PayloadTooLargeError(TunewardError, ValueError):
    """The body is larger than the configured limit."""

    code = "payload_too_large"
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    type = "invalid_request_error"


class QuotaExceededError(TunewardError):
    """The project has used up what it is allowed; repeating the request changes nothing."""

    code = "insufficient_quota"
    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "insufficient_quota"


class RateLimitedError(TunewardError):
    """The key has sent too many requests within a minute.

    Args:
        message: How many are allowed.
        retry_after_seconds: When the next request will be served.
    """

    code = "rate_limit_exceeded"
    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "requests"
    retryable = True

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TransientError(TunewardError):
    """Something failed that may well work next time."""

    code = "temporarily_unavailable"
    status = HTTPStatus.SERVICE_UNAVAILABLE
    retryable = True


class TooManyStreamsError(TransientError):
    """The gateway already serves as many live streams as it may."""

    code = "too_many_streams"
    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "requests"


class InferenceBusyError(TransientError):
    """The inference process already serves as many requests as it may."""

    code = "inference_busy"
    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "requests"


class FilesBusyError(TransientError):
    """The server joins and checks as many files as it may already, or this very upload."""

    code = "files_busy"
    status = HTTPStatus.TOO_MANY_REQUESTS
    type = "requests"


class UnavailableError(TransientError):
    """A part that this request needs (database, storage) does not answer."""

    code = "service_unavailable"


class StorageUnavailableError(UnavailableError):
    """The disk or service that holds files is full, failing or away; the next try may do."""

    code = "storage_unavailable"


class InferenceUnavailableError(UnavailableError):
    """No inference process is configured, or it does not answer."""

    code = "inference_unavailable"


class ModelUnusableError(TunewardError):
    """The model's own weights cannot be loaded, checked or applied; no other model answers."""

    code = "model_unusable"


class JobFailedError(TunewardError):
    """The job cannot succeed, however often it is tried; `code` becomes the job's error code."""


class LeaseLostError(TunewardError):
    """The caller no longer holds the job: nothing was written, and its work must stop."""

    code = "lease_lost"


class StorageError(TunewardError):
    """Artifact storage could not do what was asked."""

    code = "storage_error"


class ObjectNotFoundError(StorageError, LookupError):
    """There is no object under this storage key."""

    code = "object_not_found"


class InvalidStorageKeyError(StorageError, ValueError):
    """The storage key is malformed, or would leave the storage root."""

    code = "invalid_storage_key"


class StoragePermissionError(StorageError):
    """This process may not touch keys under this prefix."""

    code = "storage_permission"


def is_disk_fault(error: BaseException) -> bool:
    """Tell a full, failing or absent disk, which may be better next time, from other errors."""
    return isinstance(error, OSError) and error.errno in _DISK_FAULTS
