"""Loaded by schemathesis: what it may not expect of a document, and nothing else."""

import os
from typing import Any, Final

import schemathesis
from schemathesis.specs.openapi.checks import (
    ensure_resource_availability,
    positive_data_acceptance,
)

_OF_JOBS: Final = (
    "model",
    "training_file",
    "validation_file",
    "method.supervised",  # excluded by another type; its defense is described by GET /v1/defenses
    "method.dpo",
    "hyperparameters.target_modules",  # of the model
    "hyperparameters.max_sequence_tokens",
)
# Of what is well formed, no schema can tell whether it exists, is taken, may be reached or fits.
_BEYOND_A_SCHEMA: Final = {
    "createFineTuningJob": _OF_JOBS,
    "estimateFineTuningJob": _OF_JOBS,
    "createChatCompletion": (
        *("model", "messages", "stream_options", "n"),
        *("max_tokens", "max_completion_tokens"),  # which exclude each other, below a setting
    ),
    "createModeration": ("input", "model"),
    "createUpload": ("bytes",),
    "addUploadPart": ("data",),
    "completeUpload": ("part_ids", "md5"),
    "createProject": ("name",),
    "updateProject": ("name",),
    "createWebhookEndpoint": ("url",),
    "updateWebhookEndpoint": ("url",),
}
_IN_EVERY_LIST: Final = ("after",)
# What else a well-formed request meets: the state of an object, a project that is full, and a
# character refused in every text, where a pattern for each would hide what matters.
_EVERYWHERE: Final = {
    "adapter_not_ready",
    "idempotency_key_reused",
    "null_character",
    "payload_too_large",
    "too_many_webhook_endpoints",
}
# A switch in the configuration does not reach the check of a walk from one operation to another.
_OF_JUDGED_JOBS: Final = {
    "retrieveFineTuningSafetyReport",
    "downloadFineTuningAnswers",
    "retrieveFineTuningAttribution",
}
_TRAINING_FILE: Final = os.environ["SCHEMA_TRAINING_FILE"]


@schemathesis.check
def accepts_what_the_document_allows(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> bool | None:
    """Do what `positive_data_acceptance` does, but for the fields named above and for states."""
    if response.status_code in {400, 413}:
        named = _BEYOND_A_SCHEMA.get(case.operation.definition.raw["operationId"], ())
        error = response.json()["error"]
        if error["code"] in _EVERYWHERE:
            return None
        param = error["param"] or ""
        if (error["code"], param) == ("invalid_hyperparameters", "hyperparameters"):
            return None  # they stand beside a method that has its own
        # What is named in the path exists, and is in a state that does not allow this.
        known = (*named, *_IN_EVERY_LIST, *case.path_parameters)
        if any(param == name or param.startswith((f"{name}.", f"{name}[")) for name in known):
            return None
    return positive_data_acceptance(ctx, response, case)


@schemathesis.check
def finds_what_was_created(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> bool | None:
    """Do what `ensure_resource_availability` does, but for what a job has once it was judged."""
    if case.operation.definition.raw["operationId"] in _OF_JUDGED_JOBS:
        return None
    return ensure_resource_availability(ctx, response, case)


@schemathesis.hook
def before_call(
    _: schemathesis.HookContext, case: schemathesis.Case[Any], __: dict[str, Any]
) -> None:
    """Have jobs created, for all that is asked of a job: no generated id is that of a file."""
    body = case.body
    is_allowed = case.meta is not None and case.meta.generation.mode.is_positive
    if is_allowed and isinstance(body, dict) and "training_file" in body:
        body |= {"model": "smollm2-135m-instruct", "training_file": _TRAINING_FILE}
        body.pop("validation_file", None)
