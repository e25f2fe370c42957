"""The errors page: what the API answers, and what a failed job can say."""

from collections.abc import Iterator

from cli.reference.request_codes import REQUEST_CODES
from core import errors
from core.errors import RequestErrorCode
from core.job_state import JobErrorCode

HEADER = """\
# Errors

<!-- Written by `python -m cli.reference`; edit the docstrings in `core/errors.py`. -->

## Answers of the API

Every error answer, on every path, has this body and an `x-request-id` header to quote:

```json
{"error": {"message": "…", "type": "not_found_error", "param": "model", "code": "not_found"}}
```

`param` is the field at fault as a dotted path, or null. `code` is stable: clients should decide on
`code`, people read `message`. These are the codes of whole classes of errors; the next table has
the more precise ones. A 500 tells its code only; the rest is in the server's log.

| HTTP | code | type | worth repeating | meaning |
|---|---|---|---|---|
"""

REQUEST_HEADER = """
## Precise codes of a refused request

They stand in the place of the class's code above. Repeating the same request helps only where the
last column says so.

| HTTP | code | meaning | what to do |
|---|---|---|---|
"""

JOB_HEADER = """
## Codes of a failed job

A job that was accepted and failed later answers 200 with `status: "failed"` and
`error: {code, message, param}`.

| code | meaning | what to do |
|---|---|---|
"""

JOB_CODES: dict[JobErrorCode, tuple[str, str]] = {
    JobErrorCode.INVALID_TRAINING_FILE: (
        "The training file has a row that cannot be used, or no usable row.",
        "The message names line and field; mend the file and upload it again.",
    ),
    JobErrorCode.INVALID_VALIDATION_FILE: (
        "The same, for the validation file.",
        "As above.",
    ),
    JobErrorCode.DATASET_POLICY_VIOLATION: (
        "The moderation classifier flagged rows, and the job's screening policy forbids them.",
        "The `moderation_checks` event lists the lines; remove them or change `screening.policy`.",
    ),
    JobErrorCode.MODEL_POLICY_VIOLATION: (
        "The gate blocked the adapter; its report says which limit it missed and by how much.",
        "Read the report in `result_files`; clean the rows or raise the defense's strength.",
    ),
    JobErrorCode.NUMERICAL_DIVERGENCE: (
        "A loss or a gradient norm stopped being finite.",
        "Lower the learning rate.",
    ),
    JobErrorCode.OUT_OF_MEMORY: (
        "The device had too little memory.",
        "Lower `batch_size` or the length of rows.",
    ),
    JobErrorCode.DEADLINE_EXCEEDED: (
        "The job ran longer than `TUNEWARD_JOB_DEADLINE`.",
        "Train fewer epochs, or ask the operator.",
    ),
    JobErrorCode.STALLED: (
        "The trainer said nothing for `TUNEWARD_STALL_TIMEOUT`.",
        "Create the job again; tell the operator if it happens twice.",
    ),
    JobErrorCode.ARCHIVE_MISMATCH: (
        "The packaged adapter, read back, did not compute what the trained model computed.",
        "Tell the operator: storage or a library is at fault. Nothing was released.",
    ),
    JobErrorCode.WORKER_LOST: (
        "Workers died on this job as often as `TUNEWARD_MAX_ATTEMPTS` allows.",
        "The worker's log says why; memory is the usual reason.",
    ),
    JobErrorCode.INVALID_INITIAL_ADAPTER: (
        "The uploaded adapter is no plain LoRA adapter of this model, or larger than the job's.",
        "The message says what is wrong; see [import an adapter](../how-to/import-an-adapter.md).",
    ),
    JobErrorCode.CHAT_TEMPLATE_REFUSED: (
        "The model's chat template refuses one of the operator's own rows or prompts.",
        "Tell the operator: the template must take a question and its answer.",
    ),
    JobErrorCode.BASE_MODEL_CHANGED: (
        "This worker has other base weights than the job began with, or its parent was trained on.",
        "Create the job again, perhaps from the base model; tell the operator that weights differ.",
    ),
    JobErrorCode.ORIGIN_UNAVAILABLE: (
        "What the job was to take over from another one's training is gone.",
        "Create the first job again.",
    ),
    JobErrorCode.INVALID_PROMPTS: (
        "The file of own prompts was deleted before the job could read it.",
        "Upload it again and repeat the request.",
    ),
    JobErrorCode.BASE_MODEL_UNAVAILABLE: (
        "The base model's files cannot be fetched, read or converted.",
        "Tell the operator: `tuneward models prepare` shows why.",
    ),
    JobErrorCode.MODEL_NOT_FOUND: (
        "The worker's registry does not know the model of the job.",
        "Tell the operator: every process needs the same `TUNEWARD_MODELS_FILE`.",
    ),
    JobErrorCode.INVALID_ROW_SOURCE: (
        "One of the operator's own row sets is missing or malformed.",
        "Tell the operator: the message names the set.",
    ),
    JobErrorCode.INVALID_DEFENSE_CONFIG: (
        "The defense's parameters do not fit this model or these rows.",
        "Change the parameter that the message names.",
    ),
    JobErrorCode.MODERATION_FAILED: (
        "The moderation classifier cannot be loaded or cannot judge.",
        "Tell the operator: see the `TUNEWARD_MODERATION_*` settings.",
    ),
    JobErrorCode.EVALUATION_FAILED: (
        "The adapter could not be evaluated, so nothing was released.",
        "Tell the operator, with the message.",
    ),
    JobErrorCode.SERVICE_UNAVAILABLE: (
        "Postgres, or the hub that holds a file of the operator's, did not answer at any attempt.",
        "Create the job again once the service is well.",
    ),
    JobErrorCode.STORAGE_UNAVAILABLE: (
        "Storage did not work at any attempt; a full disk is the usual reason.",
        "Tell the operator, and create the job again once the service is well.",
    ),
    JobErrorCode.STORAGE_ERROR: (
        "A file of the job is gone or cannot be read or written.",
        "Tell the operator: the worker's log says which and why.",
    ),
    JobErrorCode.INTERNAL_ERROR: (
        "A fault of Tuneward's own.",
        "Quote the job id to the operator.",
    ),
}


def render() -> str:
    """Return the page as Markdown."""
    answers = "".join(_row(error) for error in _tree(errors.TunewardError) if _is_answered(error))
    requests = "".join(_request_row(code) for code in RequestErrorCode)
    jobs = "".join(f"| `{code}` | {' | '.join(JOB_CODES[code])} |\n" for code in JobErrorCode)
    return HEADER + answers + REQUEST_HEADER + requests + JOB_HEADER + jobs


def _tree(error: type[errors.TunewardError]) -> Iterator[type[errors.TunewardError]]:
    yield error
    for child in error.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from _tree(child)


def _is_answered(error: type[errors.TunewardError]) -> bool:
    """Leave out the classes that only workers meet."""
    return error not in {errors.JobFailedError, errors.LeaseLostError}


def _request_row(code: RequestErrorCode) -> str:
    status, meaning, action = REQUEST_CODES[code]
    return f"| {int(status)} | `{code}` | {meaning} | {action} |\n"


def _row(error: type[errors.TunewardError]) -> str:
    meaning = (error.__doc__ or "").split("\n\n")[0].replace("\n", " ").strip()
    if error is errors.TunewardError:
        meaning = "Something failed that should not; the log has the details under the request id."
    again = "yes" if error.retryable else "no"
    return f"| {int(error.status)} | `{error.code}` | `{error.type}` | {again} | {meaning} |\n"
