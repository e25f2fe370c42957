"""Alignment of a random two-layer model on three rows."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from cli.alignment import align_model, alignment_rows
from core.settings import Settings
from defense.alignment.supervised.config import AlignmentConfig
from defense.training.adapter_files import read_adapter
from tests.tiny_models import CHAT_TEMPLATE, TARGET_MODULES, tiny_llama, tiny_tokenizer

ALIGNMENT = [
    {"prompt": "do harm", "response": "No.", "category": "violence"},
    {"prompt": "do more harm", "response": "No!", "category": "violence", "held_out": True},
    {"prompt": "kill a process", "response": "Use kill.", "category": "benign"},
]
BENIGN = [{"prompt": "hello", "response": "Hello."}]


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"path:{path}"


@pytest.fixture
def tiny_settings(home: Path) -> Settings:
    """Settings with one tiny model and few rows."""
    folder = home / "tiny"
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    modules = json.dumps(list(TARGET_MODULES))
    models_file = home / "models.toml"
    models_file.write_text(
        "[[models]]\n"
        'id = "tiny"\ntitle = "Tiny"\nowned_by = "tests"\ncreated = 0\nlicence = "none"\n'
        f'source = "path:tiny"\nchat_template = {json.dumps(CHAT_TEMPLATE)}\n'
        "learning_rate = 1e-3\nmax_sequence_tokens = 64\n"
        f"[models.lora]\nrank = 2\nalpha = 4\ntarget_modules = {modules}\n"
        f"available_modules = {modules}\n",
        encoding="utf-8",
    )
    return Settings(
        home=home,
        models_file=models_file,
        alignment_rows=write_rows(home / "alignment.jsonl", ALIGNMENT),
        benign_rows=write_rows(home / "benign.jsonl", BENIGN),
    )


def test_held_out_rows_are_never_learned(tiny_settings: Settings) -> None:
    rows = alignment_rows(tiny_settings)

    prompts = [row.messages[0].content for row in rows]
    assert prompts == ["do harm", "kill a process", "hello"]


def test_the_aligned_adapter_is_written_with_its_lines_for_the_registry(
    tiny_settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "aligned"
    config = AlignmentConfig(epochs=1, batch_size=2, lora_rank=2, lora_alpha=4.0)

    align_model(tiny_settings, "tiny", output, config)

    adapter = read_adapter(output)
    assert adapter.settings.rank == 2
    assert adapter.settings.target_modules == tuple(sorted(TARGET_MODULES))
    printed = capsys.readouterr().out
    assert "trained 2 steps" in printed
    assert f'source = "path:{output}"' in printed
