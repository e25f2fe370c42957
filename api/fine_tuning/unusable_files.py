"""What is wrong with a job's files: the error of a job that is created failed.

Only what the gateway can tell without a tokenizer: a row with more words than the model takes
tokens is too long, where tokens do not join words. The worker's first stage counts tokens.
"""

from api.files.schemas import ValidationObject
from core.job_state import JobErrorCode
from core.models import File, FileStatus
from core.models.base import Json


def unusable_file(
    training_file: File, validation_file: File | None, max_sequence_tokens: int
) -> Json | None:
    """Give the error of the first file that no job can use; None when both are fine."""
    files = [(training_file, JobErrorCode.INVALID_TRAINING_FILE, "training_file")]
    if validation_file is not None:
        files.append((validation_file, JobErrorCode.INVALID_VALIDATION_FILE, "validation_file"))
    for file, code, param in files:
        message = _problem(file, param, max_sequence_tokens)
        if message is not None:
            return {"code": code.value, "message": message, "param": param}
    return None


def _problem(file: File, param: str, max_sequence_tokens: int) -> str | None:
    report = ValidationObject.model_validate(file.validation)
    if file.status is FileStatus.ERROR:
        count = "1 mistake" if report.error_count == 1 else f"{report.error_count} mistakes"
        first, others = report.errors[0].sentence(), _where_the_others_are(file.id, report)
        return f"{count} in {param} ({report.rows} rows). {first}{others}"
    longest = report.longest_row
    if longest is not None and longest.words > max_sequence_tokens:
        return (
            f"Line {longest.line}, messages: the row has {longest.words} words, and so more than "
            f"{max_sequence_tokens} tokens, the most this model may be trained on. Split or "
            "shorten the conversation."
        )
    return None


def _where_the_others_are(file_id: str, report: ValidationObject) -> str:
    """Point to the report of the file, unless its only mistake was told."""
    if report.error_count == 1:
        return ""
    listed = len(report.errors)
    which = "All" if listed == report.error_count else f"The first {listed}"
    return f" {which} are in `validation.errors` of `GET /v1/files/{file_id}`."
