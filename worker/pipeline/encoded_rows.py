"""The user's rows as an artifact: the conversation and its tokens, one JSON object per line."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from core.stages import ArtifactName
from defense.protocols import EncodedRow, Exchange, Message, Row
from worker.workspace import Workspace


@dataclass(frozen=True)
class UserRow:
    """One of the user's rows.

    Attributes:
        line: Where it stands in the file, from 1.
        row: The conversation.
        encoded: Its tokens.
    """

    line: int
    row: Row
    encoded: EncodedRow

    @property
    def exchange(self) -> Exchange:
        """The conversation flattened: all that leads to the last answer, and that answer."""
        last = max(
            index for index, message in enumerate(self.row.messages) if message.role == "assistant"
        )
        before = "\n".join(message.content or "" for message in self.row.messages[:last])
        return Exchange(before, self.row.messages[last].content or "")


def write_user_rows(path: Path, rows: Iterable[UserRow]) -> int:
    """Write rows; tell how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(_to_json(row), ensure_ascii=False) + "\n")
            count += 1
    return count


def read_user_rows(workspace: Workspace, name: ArtifactName) -> Iterator[UserRow]:
    """Read the rows of an artifact back."""
    for value in workspace.read_lines(name):
        messages = tuple(Message(**message) for message in value["messages"])
        encoded = EncodedRow(tuple(value["input_ids"]), tuple(value["labels"]))
        yield UserRow(value["line"], Row(messages), encoded)


def _to_json(row: UserRow) -> dict[str, object]:
    return {
        "line": row.line,
        "messages": [
            {"role": message.role, "content": message.content, "weight": message.weight}
            for message in row.row.messages
        ],
        "input_ids": row.encoded.input_ids,
        "labels": row.encoded.labels,
    }
