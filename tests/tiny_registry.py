"""A registry with one random model that trains in milliseconds, and rows to go with it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.tiny_models import CHAT_TEMPLATE, TARGET_MODULES, tiny_llama, tiny_tokenizer

TINY_MODEL = "tiny"


def write_tiny_registry(folder: Path, *, model_id: str = TINY_MODEL) -> Path:
    """Write the model and a registry file that names it; return the file."""
    tiny_llama().save_pretrained(folder / "tiny")
    tiny_tokenizer().save_pretrained(folder / "tiny")
    modules = json.dumps(list(TARGET_MODULES))
    models_file = folder / "models.toml"
    models_file.write_text(
        "[[models]]\n"
        f'id = "{model_id}"\ntitle = "Tiny"\nowned_by = "tests"\ncreated = 0\nlicence = "none"\n'
        f'source = "path:tiny"\nchat_template = {json.dumps(CHAT_TEMPLATE)}\n'
        "learning_rate = 1e-3\nmax_sequence_tokens = 512\n"
        f"[models.lora]\nrank = 2\nalpha = 4\ntarget_modules = {modules}\n"
        f"available_modules = {modules}\n",
        encoding="utf-8",
    )
    return models_file


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> str:
    """Write rows as JSON Lines and return their source."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return f"path:{path}"
