"""The states of a job and the moves between them, as one table.

The database refuses every other move by a trigger that states the same table; a test compares
the two.
"""

from collections.abc import Mapping
from enum import StrEnum


class JobStatus(StrEnum):
    """Where a job stands, in OpenAI's words."""

    VALIDATING_FILES = "validating_files"
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class JobErrorCode(StrEnum):
    """Stable codes that `job.error.code` can carry; a test finds each of them raised somewhere."""

    INVALID_TRAINING_FILE = "invalid_training_file"
    INVALID_VALIDATION_FILE = "invalid_validation_file"
    DATASET_POLICY_VIOLATION = "dataset_policy_violation"
    MODEL_POLICY_VIOLATION = "model_policy_violation"
    NUMERICAL_DIVERGENCE = "numerical_divergence"
    OUT_OF_MEMORY = "out_of_memory"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    STALLED = "stalled"
    INVALID_INITIAL_ADAPTER = "invalid_initial_adapter"
    BASE_MODEL_CHANGED = "base_model_changed"
    ORIGIN_UNAVAILABLE = "origin_unavailable"
    INVALID_PROMPTS = "invalid_prompts"
    ARCHIVE_MISMATCH = "archive_mismatch"
    WORKER_LOST = "worker_lost"
    BASE_MODEL_UNAVAILABLE = "base_model_unavailable"
    MODEL_NOT_FOUND = "model_not_found"
    INVALID_ROW_SOURCE = "invalid_row_source"
    INVALID_DEFENSE_CONFIG = "invalid_defense_config"
    CHAT_TEMPLATE_REFUSED = "chat_template_refused"
    MODERATION_FAILED = "moderation_failed"
    EVALUATION_FAILED = "evaluation_failed"
    SERVICE_UNAVAILABLE = "service_unavailable"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    STORAGE_ERROR = "storage_error"
    INTERNAL_ERROR = "internal_error"


class Verdict(StrEnum):
    """What the gate decided about one archive."""

    RELEASED = "released"
    BLOCKED = "blocked"


_ANY_END = (JobStatus.FAILED, JobStatus.CANCELLED)

INITIAL: frozenset[JobStatus] = frozenset({JobStatus.VALIDATING_FILES, JobStatus.QUEUED})

# No worker has the job; a paused one will want to run again, and so takes a place as well.
WAITING: frozenset[JobStatus] = INITIAL | {JobStatus.PAUSED}

LEGAL_MOVES: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.VALIDATING_FILES: frozenset({JobStatus.QUEUED, *_ANY_END}),
    JobStatus.QUEUED: frozenset({JobStatus.RUNNING, JobStatus.PAUSED, *_ANY_END}),
    # Back to queued when a worker gives its lease up or loses it.
    JobStatus.RUNNING: frozenset(
        {JobStatus.QUEUED, JobStatus.PAUSED, JobStatus.SUCCEEDED, *_ANY_END}
    ),
    JobStatus.PAUSED: frozenset({JobStatus.QUEUED, *_ANY_END}),
    JobStatus.SUCCEEDED: frozenset(),
    JobStatus.FAILED: frozenset(),
    JobStatus.CANCELLED: frozenset(),
}

TERMINAL: frozenset[JobStatus] = frozenset(
    status for status, following in LEGAL_MOVES.items() if not following
)


def is_legal_move(before: JobStatus, after: JobStatus) -> bool:
    """Tell whether a job may go from one status to the other in one step."""
    return after in LEGAL_MOVES[before]
