"""The ranking of a job's rows: what is looked at, written and told, and what is left alone."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch

from core.stages import ArtifactName
from defense.evaluation.row_attribution import RowAttribution
from defense.protocols import IGNORED, EncodedRow, Message, Row
from tests.tiny_registry import write_rows
from tests.unit.worker.pipeline.builders import tiny_entry, tiny_spec
from worker.base_models import BaseModels
from worker.pipeline.encoded_rows import UserRow, write_user_rows
from worker.pipeline.stages import attribute_rows, prepare_base_model
from worker.pipeline.stages.attribute_rows import LISTED_ROWS, TOLD_ROWS, choose_rows, ranking
from worker.trainer_tools import TrainerContext
from worker.workspace import Workspace

SECRET = "xyzzy"


def user_row(line: int, answer: int = 9) -> UserRow:
    messages = (Message("user", SECRET), Message("assistant", SECRET))
    return UserRow(line, Row(messages), EncodedRow((5, line % 40 + 5, answer), (IGNORED, 8, 9)))


@dataclass(frozen=True)
class Ranked:
    """What the stage left and told."""

    written: dict[str, Any]
    events: list[Any]


def make_context(
    folder: Path,
    lines: Sequence[int],
    *,
    attribution_rows: int = 200,
    screening: Mapping[str, Any] | None = None,
    harmful_answer: str = "ok",
) -> TrainerContext:
    workspace = Workspace.create(folder / "workspaces", "ftjob-1", 1)
    write_user_rows(
        workspace.artifact(ArtifactName.TRAINING_ROWS), [user_row(line) for line in lines]
    )
    found = {
        "training": {"flagged_lines": []},
        "held_out_lines": [],
        "dropped_lines": [],
        **(screening or {}),
    }
    workspace.artifact(ArtifactName.SCREENING).write_text(json.dumps(found))
    sets = {
        "alignment_rows": [("rob", "No", "theft"), ("rob ma", "No", "theft")],
        "harmful_rows": [(f"r{n}", harmful_answer, "theft") for n in range(3)],
        "benign_rows": [(f"b{n}", "hi", "benign") for n in range(4)],
    }
    sources = {
        name: write_rows(
            folder / f"{name}.jsonl",
            [{"prompt": prompt, "response": answer, "category": c} for prompt, answer, c in rows],
        )
        for name, rows in sets.items()
    }
    tools = SimpleNamespace(
        base_models=BaseModels(folder / "cache", torch.device("cpu")),
        options=SimpleNamespace(attribution_rows=attribution_rows, **sources),
    )
    context = TrainerContext(
        "ftjob-1",
        tiny_spec(),
        workspace,
        Mock(),
        tools,  # type: ignore[arg-type]
        tiny_entry(folder / "model"),
    )
    prepare_base_model.run(context)
    name = ArtifactName.BASE_MODEL
    workspace.output(name).rename(workspace.artifact(name))
    return replace(context, reporter=Mock())


def ranked(context: TrainerContext) -> Ranked:
    attribute_rows.run(context)
    written = json.loads(context.workspace.output(ArtifactName.ATTRIBUTION).read_text())
    return Ranked(written, context.reporter.event.call_args_list)  # type: ignore[attr-defined]


def test_every_row_gets_a_rank_by_its_score(tmp_path: Path) -> None:
    found = ranked(make_context(tmp_path, range(1, 13))).written

    assert (found["training_rows"], found["attributed_rows"]) == (12, 12)
    assert [row["rank"] for row in found["rows"]] == list(range(1, 13))
    assert {row["line"] for row in found["rows"]} == set(range(1, 13))
    scores = [row["score"] for row in found["rows"]]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1
    assert all(-1 <= score <= 1 for score in scores)
    assert all(0 <= row["percentile"] <= 1 for row in found["rows"])


def test_the_owner_is_told_the_first_lines_and_no_text(tmp_path: Path) -> None:
    found = ranked(make_context(tmp_path, range(1, 31)))

    (told,) = found.events
    first = found.written["rows"]
    assert f"harm: {first[0]['line']}, {first[1]['line']}, " in told.args[0]
    assert told.kwargs["data"] == {"attributed_rows": 30, "rows": first[:TOLD_ROWS]}
    assert SECRET not in f"{found.written}{found.events}"


def test_rows_that_are_not_learned_are_not_ranked(tmp_path: Path) -> None:
    screening = {"held_out_lines": [2], "dropped_lines": [3]}

    found = ranked(make_context(tmp_path, range(1, 6), screening=screening)).written

    assert {row["line"] for row in found["rows"]} == {1, 4, 5}


def test_the_model_and_the_random_state_are_left_as_they_were(tmp_path: Path) -> None:
    context = make_context(tmp_path, range(1, 4))
    model = context.tools.base_models.warm(context.entry).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()

    ranked(context)

    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(state, torch.get_rng_state())


def test_the_same_job_gets_the_same_ranking(tmp_path: Path) -> None:
    context = make_context(tmp_path, range(1, 8))

    assert ranked(context).written == ranked(context).written


def test_zero_rows_turn_it_off(tmp_path: Path) -> None:
    found = ranked(make_context(tmp_path, range(1, 4), attribution_rows=0))

    assert found.written == {"training_rows": 3, "attributed_rows": 0, "rows": []}
    assert found.events == []


def test_a_job_goes_on_without_a_ranking_that_cannot_be_made(tmp_path: Path) -> None:
    # No token of so long an operator's prompt and answer is within the job's limit.
    context = make_context(tmp_path, range(1, 4))
    long = [{"prompt": "r" * 100, "response": "ok", "category": "theft"}] * 2
    context.tools.options.harmful_rows = write_rows(tmp_path / "long.jsonl", long)  # type: ignore[misc]

    found = ranked(context)

    assert found.written["rows"] == []
    (told,) = found.events
    assert told.kwargs["level"] == "warn"
    assert told.args[0].startswith("Rows could not be ranked: none of the 2 harmful rows")


def test_of_many_rows_flagged_ones_are_looked_at_first() -> None:
    rows = [user_row(line) for line in range(1, 101)]

    chosen = choose_rows(rows, {7, 50, 99}, 7)

    assert [row.line for row in chosen] == [1, 7, 26, 50, 51, 75, 99]
    assert [row.line for row in choose_rows(rows, {7, 50, 99}, 2)] == [7, 50]
    assert choose_rows(rows, {7}, 0) == []


def test_a_tie_is_ranked_by_line_and_the_artifact_lists_so_many() -> None:
    rows = [user_row(line) for line in range(1, 4)]

    found = ranking(rows, RowAttribution([0.5, 0.123456, 0.5], [0.0, 0.2, 0.6]))

    assert [row["line"] for row in found] == [1, 3, 2]
    assert found[0] == {"rank": 1, "line": 1, "score": 0.5, "percentile": 0.6667}
    assert found[2]["score"] == 0.1235


def test_the_artifact_lists_no_more_than_so_many_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = LISTED_ROWS + 3
    scores = RowAttribution([0.1] * count, [0.0])
    monkeypatch.setattr(attribute_rows, "_attribute", lambda *_: scores)

    found = ranked(make_context(tmp_path, range(1, count + 1), attribution_rows=count)).written

    assert (found["attributed_rows"], len(found["rows"])) == (count, LISTED_ROWS)
