"""What ``tuneward models`` prints."""

import io

import pytest
from rich.console import Console

from cli import console, tables
from cli.models import HEADINGS, show_models
from core.model_registry import ModelRegistry
from core.settings import Settings

MODEL = ("smollm2-135m-instruct", "SmolLM2 135M Instruct", "Apache-2.0", "package:llm_x", "none")


def printed(width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(tables.render(HEADINGS, [MODEL]))
    return stream.getvalue()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_an_id_is_never_cut_and_stands_on_one_line(width: int) -> None:
    text = printed(width)

    assert MODEL[0] in text
    assert "…" not in text


def test_a_program_reads_one_model_per_line_with_tabs_between_columns(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    show_models(settings)

    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines] == [entry.id for entry in ModelRegistry.load(settings)]
    assert all(len(line) == len(HEADINGS) for line in lines)


@pytest.mark.parametrize(("width", "is_table"), [(100, True), (40, False)])
def test_a_person_reads_a_table_where_the_terminal_has_room_for_one(
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    width: int,
    is_table: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(console, "out", Console(file=stream, force_terminal=True, width=width))

    show_models(settings)

    assert ("aligned adapter" in stream.getvalue()) == is_table
    assert ("\t" in capsys.readouterr().out) != is_table
