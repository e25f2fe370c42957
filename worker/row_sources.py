"""The operator's row sets: found, downloaded where they name a hub, read and checked.

A source is `resource:rows/…` (shipped), `path:…` or `hub:org/name@revision/file`. Every set is
JSON Lines; keys that a set does not need are ignored.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from huggingface_hub import hf_hub_download

from core.errors import TunewardError, is_disk_fault
from core.model_registry import Source, SourceKind
from core.resources import resource_path
from worker.hub import from_hub

BENIGN_CATEGORY: Final = "benign"
HELD_OUT_EVERY: Final = 5

_log = structlog.get_logger(__name__)


class RowSourceError(TunewardError):
    """A row set that the operator configured can't be used."""

    code = "invalid_row_source"


@dataclass(frozen=True)
class PromptRow:
    """A prompt, perhaps with the answer to learn and the category of harm it belongs to."""

    prompt: str
    response: str
    category: str
    held_out: bool = False

    @property
    def is_benign(self) -> bool:
        """Whether the row is of the harmless look-alikes in the alignment set."""
        return self.category == BENIGN_CATEGORY


def locate_rows(source_text: str) -> Path:
    """Find the file a source names, downloading it if needed.

    Raises:
        RowSourceError: There is no such file, or the source is malformed.
        HubUnavailableError: The hub does not answer.
    """
    try:
        source = Source.parse(source_text)
        match source.kind:
            case SourceKind.RESOURCE:
                return resource_path(source.location)
            case SourceKind.PATH:
                path = Path(source.location).expanduser()
                if not path.is_file():
                    raise FileNotFoundError(path)
                return path
            case SourceKind.HUB if source.file:
                return _download(source, source.file)
    except (OSError, ValueError) as error:
        if is_disk_fault(error):
            raise
        raise _unreadable(source_text, error) from error
    _log.error("row_source_without_file", source=source_text)
    raise RowSourceError(
        f"{public_name(source_text)} names no file of rows.",
        hint="The operator writes hub:org/name@revision/file.jsonl.",
    )


def public_name(source_text: str) -> str:
    """Name a row set to a tenant: by the file's name, without the operator's folders."""
    try:
        source = Source.parse(source_text)
    except ValueError:
        return "A row set of the operator"
    file = Path(source.file or source.location).name
    return f"The operator's row set {file}"


def read_rows(source_text: str, *, with_response: bool) -> list[PromptRow]:
    """Read a whole row set.

    Args:
        source_text: Where it is.
        with_response: Whether every row needs a response.

    Raises:
        RowSourceError: It is missing, malformed or empty.
        HubUnavailableError: The hub does not answer.
    """
    path = locate_rows(source_text)
    name = public_name(source_text)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if is_disk_fault(error):
            raise
        raise _unreadable(source_text, error) from error
    rows = [
        _read_row(line, f"{name}, line {number},", with_response)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    if not rows:
        raise RowSourceError(f"{name} holds no rows.")
    return rows


def spread(rows: Sequence[PromptRow], count: int) -> list[PromptRow]:
    """Take `count` rows evenly from a set, so that every category of an ordered file is there."""
    if len(rows) <= count:
        return list(rows)
    return [rows[index * len(rows) // count] for index in range(count)]


def hold_out(alignment: Sequence[PromptRow]) -> tuple[list[PromptRow], list[PromptRow]]:
    """Split a whole alignment set into rows to learn from and harmful rows to judge by.

    The rows themselves may say which are held out; if none does, every fifth harmful prompt is.
    Always give the whole set: of a part of it, other prompts would be the fifth.
    """
    held = {row.prompt for row in alignment if row.held_out}
    if not held:
        harmful = dict.fromkeys(row.prompt for row in alignment if not row.is_benign)
        held = set(list(harmful)[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY])
    return (
        [row for row in alignment if row.prompt not in held],
        [row for row in alignment if row.prompt in held and not row.is_benign],
    )


def to_learn_from(rows: Sequence[PromptRow], judged: Sequence[PromptRow]) -> list[PromptRow]:
    """Leave out of another set what is held out: by its own word, or because it is judged by."""
    prompts = {row.prompt for row in judged}
    return [row for row in rows if not row.held_out and row.prompt not in prompts]


def to_judge_by(rows: Sequence[PromptRow], judged: Sequence[PromptRow]) -> list[PromptRow]:
    """Take of another set what `to_learn_from` leaves out."""
    prompts = {row.prompt for row in judged}
    return [row for row in rows if row.held_out or row.prompt in prompts]


def _download(source: Source, file: str) -> Path:
    return Path(
        from_hub(
            lambda: hf_hub_download(
                source.location, file, revision=source.revision, repo_type="dataset"
            )
        )
    )


def _unreadable(source_text: str, error: Exception) -> RowSourceError:
    """Say what failed without the operator's paths, which go to the log."""
    _log.error("row_source_unreadable", source=source_text, exc_info=error)
    return RowSourceError(
        f"{public_name(source_text)} can't be read.", hint="The operator's log says why."
    )


def _read_row(line: str, place: str, with_response: bool) -> PromptRow:  # noqa: FBT001
    try:
        value = json.loads(line)
    except ValueError as error:
        raise RowSourceError(f"{place} is not JSON.") from error
    if not isinstance(value, dict):
        raise RowSourceError(f"{place} is not a JSON object.")
    texts = {name: value.get(name) for name in ("prompt", "response", "category")}
    for name in ("prompt", "response") if with_response else ("prompt",):
        if not isinstance(texts[name], str) or not texts[name]:
            raise RowSourceError(f"{place} has no text under {name}.")
    return PromptRow(
        **{name: text if isinstance(text, str) else "" for name, text in texts.items()},
        held_out=value.get("held_out") is True,
    )
