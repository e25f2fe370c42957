"""What each precise code of a refused request means, for the errors page."""

from http import HTTPStatus
from typing import NamedTuple

from core.errors import RequestErrorCode as Code


class Explanation(NamedTuple):
    """One row of the table."""

    status: HTTPStatus
    meaning: str
    action: str


_BAD = HTTPStatus.BAD_REQUEST
_NOT_FOUND = HTTPStatus.NOT_FOUND

REQUEST_CODES: dict[Code, Explanation] = {
    Code.UNKNOWN_URL: Explanation(
        _NOT_FOUND,
        "No route has this address.",
        "Compare it with [http-api.md](http-api.md); it has no slash at its end.",
    ),
    Code.METHOD_NOT_ALLOWED: Explanation(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "The address exists, but not for this method.",
        "Compare the method with [http-api.md](http-api.md).",
    ),
    Code.INVALID_VALUE: Explanation(
        _BAD,
        "A field is missing, unknown, of the wrong type or out of range.",
        "Mend the field that `param` names; the message says what is accepted.",
    ),
    Code.INVALID_CURSOR: Explanation(
        _BAD,
        "`after` names no item of this list.",
        "Take `last_id` of the page before, or begin without `after`.",
    ),
    Code.IDEMPOTENCY_KEY_REUSED: Explanation(
        _BAD,
        "This `Idempotency-Key` came with a different request before.",
        "Send a new key with a new request.",
    ),
    Code.INSUFFICIENT_SCOPE: Explanation(
        HTTPStatus.FORBIDDEN,
        "The key is good, but lacks the scope that this route needs.",
        "Take a key with the scope that the message names, or ask the operator for one.",
    ),
    Code.MISMATCHED_ORGANIZATION: Explanation(
        HTTPStatus.UNAUTHORIZED,
        "`OpenAI-Organization` names another organization than the key's project.",
        "Leave the header out, or send the `organization_id` of the project's jobs.",
    ),
    Code.MISMATCHED_PROJECT: Explanation(
        HTTPStatus.UNAUTHORIZED,
        "`OpenAI-Project` names another project than the key's.",
        "Leave the header out, or take a key of that project.",
    ),
    Code.PROJECT_NAME_TAKEN: Explanation(
        _BAD, "Another project has this name.", "Choose another name."
    ),
    Code.INVALID_JSON: Explanation(
        _BAD, "The body is not JSON, or ends too soon.", "The message says line and column."
    ),
    Code.INVALID_UTF8: Explanation(_BAD, "The body is not UTF-8.", "Send it as UTF-8."),
    Code.BYTE_ORDER_MARK: Explanation(
        _BAD, "The body starts with a byte order mark.", "Send it without one."
    ),
    Code.DUPLICATE_KEY: Explanation(
        _BAD, "An object of the body names the same key twice.", "Keep one of the two."
    ),
    Code.NESTED_TOO_DEEP: Explanation(
        _BAD, "The body is nested deeper than 64 levels.", "Flatten it."
    ),
    Code.NUMBER_NOT_FINITE: Explanation(
        _BAD, "A number is NaN, infinite or past 1.8e308.", "Send a finite number or null."
    ),
    Code.NUMBER_TOO_LONG: Explanation(
        _BAD, "An integer has thousands of digits.", "Shorten the number."
    ),
    Code.NULL_CHARACTER: Explanation(_BAD, "A text holds a null character.", "Remove `\\u0000`."),
    Code.LONE_SURROGATE: Explanation(
        _BAD,
        "A text holds half of a surrogate pair.",
        "Send the character as UTF-8, or both halves of the pair.",
    ),
    Code.INVALID_MULTIPART: Explanation(
        _BAD,
        "The body of an upload is no multipart form, or an incomplete one.",
        "Send `file` and `purpose` as `multipart/form-data`.",
    ),
    Code.MISSING_REQUIRED_PARAMETER: Explanation(
        _BAD, "An upload lacks `file` or `purpose`.", "Send the field that `param` names."
    ),
    Code.UNSUPPORTED_PARAMETER: Explanation(
        _BAD,
        "An upload or a chat has a field that is not offered here.",
        "Leave out the field that `param` names.",
    ),
    Code.RANGE_NOT_SATISFIABLE: Explanation(
        HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
        "The `Range` begins behind the end of the file.",
        "Take the length from `content-range`.",
    ),
    Code.FILE_IN_USE: Explanation(
        _BAD,
        "A job that is not finished needs the file or model that was to be deleted.",
        "Wait for the job, or cancel it.",
    ),
    Code.UPLOAD_NOT_PENDING: Explanation(
        _BAD,
        "The upload in parts is completed, cancelled or expired.",
        "Create another one.",
    ),
    Code.INCOMPLETE_UPLOAD: Explanation(
        _BAD,
        "The parts have not as many bytes as the upload has announced.",
        "Name all parts in `part_ids`, each once and in order.",
    ),
    Code.CHECKSUM_MISMATCH: Explanation(
        _BAD,
        "The parts, in this order, have another MD5 than `md5` says.",
        "Check the order of `part_ids`; send the part that was damaged again.",
    ),
    Code.FILE_NOT_FOUND: Explanation(
        _NOT_FOUND,
        "A job names a training, validation or adapter file that this project does not have.",
        "Upload the file with a key of this project; send the id of the answer.",
    ),
    Code.WRONG_FILE_PURPOSE: Explanation(
        _BAD,
        "A job names a file of another purpose.",
        "Upload it with the `purpose` that the message names.",
    ),
    Code.INVALID_TRAINING_FILE: Explanation(
        _BAD,
        "An estimate names a training file with mistakes; its job would fail with this error.",
        "Mend the lines that the message names.",
    ),
    Code.INVALID_VALIDATION_FILE: Explanation(
        _BAD,
        "An estimate names a validation file with mistakes; its job would fail with this error.",
        "Mend the lines that the message names.",
    ),
    Code.MODEL_NOT_AVAILABLE: Explanation(
        _BAD,
        "A job names a model that cannot be fine-tuned here.",
        "Take one that `GET /v1/models` lists.",
    ),
    Code.MODEL_NOT_FOUND: Explanation(
        _NOT_FOUND,
        "There is no base model and no tuned model of this project with this id.",
        "`GET /v1/models` lists them.",
    ),
    Code.BASE_MODEL: Explanation(
        HTTPStatus.FORBIDDEN,
        "A base model was to be deleted; it belongs to the operator.",
        "The operator takes it out of the model registry.",
    ),
    Code.INVALID_HYPERPARAMETERS: Explanation(
        _BAD,
        "Hyperparameters contradict each other, or the model's aligned adapter.",
        "Change the one that `param` names.",
    ),
    Code.INVALID_DEFENSE_CONFIG: Explanation(
        _BAD,
        "There is no such defense or option, or a value is out of range.",
        "`GET /v1/defenses` gives each one's schema.",
    ),
    Code.UNSUPPORTED_GRADER: Explanation(
        _BAD,
        "A grader is of a type, or has a metric, that this server does not offer.",
        "Take one that the message names, or a metric of the API reference.",
    ),
    Code.JOB_NOT_CANCELLABLE: Explanation(
        _BAD, "The job is finished already.", "Nothing: it does not run any more."
    ),
    Code.JOB_NOT_PAUSABLE: Explanation(
        _BAD,
        "The job that was to be paused is finished or is being cancelled.",
        "Nothing: it does not run any more, or not for long.",
    ),
    Code.JOB_NOT_PAUSED: Explanation(
        _BAD,
        "The job that was to be resumed is not paused, and nobody has asked for it.",
        "Nothing: it waits, runs or is finished, as its `status` says.",
    ),
    Code.ADAPTER_NOT_READY: Explanation(
        _BAD, "The job is not finished.", "Ask again once its status is `succeeded`."
    ),
    Code.NO_ADAPTER: Explanation(
        _NOT_FOUND,
        "The job failed or was cancelled, or its archive was deleted.",
        "The job's `status` and `error` say which; create it again.",
    ),
    Code.NO_REPORT: Explanation(
        _NOT_FOUND,
        "The job has no safety report: it was not judged yet, never will be, or it was deleted.",
        "Ask again once the job is finished; only a job that was judged has one.",
    ),
    Code.NO_ATTRIBUTION: Explanation(
        _NOT_FOUND,
        "The job's rows were not ranked: an earlier release of the server trained it.",
        "Create the job again, if you need the ranking.",
    ),
    Code.JOB_NOT_JUDGED: Explanation(
        _BAD,
        "The job that was to be followed up is not finished, or ended before it was judged.",
        "Wait for it; one that failed or was cancelled before is created again.",
    ),
    Code.NO_PERTURBATION: Explanation(
        _BAD,
        "A strength was to be changed, and the job's defense moves nothing after training.",
        "Create the job again with a post-fine-tuning defense.",
    ),
    Code.TRAINING_NOT_KEPT: Explanation(
        _BAD,
        "What a follow-up job needs of the first one is gone: `TUNEWARD_TRAINING_RETENTION` is "
        "over, or its model or a file of rows was deleted.",
        "Create the job again.",
    ),
    Code.INVALID_PROMPTS: Explanation(
        _BAD,
        "A line of the file of prompts is no prompt, or there are none or too many.",
        "Mend the line that the message names.",
    ),
    Code.MODEL_POLICY_VIOLATION: Explanation(
        _BAD,
        "The gate blocked the adapter that was to be downloaded.",
        "Read the job's `safety` and its safety report.",
    ),
    Code.UNSUPPORTED_CONTENT: Explanation(
        _BAD,
        "A message or a text to moderate has a part that is no text, such as an image.",
        "Send the part that `param` names as text, or leave it out.",
    ),
    Code.CONTEXT_LENGTH_EXCEEDED: Explanation(
        _BAD,
        "The messages of a chat have more tokens than the model reads, or the texts of a "
        "moderation more characters than are judged at once.",
        "Send fewer or shorter messages; the message says how many tokens fit.",
    ),
    Code.FORBIDDEN_WEBHOOK_URL: Explanation(
        _BAD,
        "Webhooks may not be sent to this address: no TLS, another port, or a private network.",
        "Give a public https address; an operator can allow more by `TUNEWARD_WEBHOOK_ALLOW_*`.",
    ),
    Code.TOO_MANY_WEBHOOK_ENDPOINTS: Explanation(
        _BAD, "The project has 20 webhook endpoints.", "Delete one that is not needed."
    ),
}
