"""The command line as a user types it."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from defense.alignment.booster.config import BoosterConfig
from defense.alignment.supervised.config import SupervisedAlignmentConfig

HEAVY = ("torch", "transformers", "sqlalchemy", "fastapi", "celery", "openai", "core.settings")


def invoke(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "120"})
    return result.exit_code, re.sub(r"\x1b\[[0-9;]*m", "", result.output)


def test_help_names_every_command() -> None:
    code, text = invoke("--help")

    assert code == 0
    for command in (
        *("serve", "demo", "gateway", "worker", "relay", "reconciler", "webhook-sender", "migrate"),
        "conformance",
        *("keys", "projects", "models", "moderation"),
    ):
        assert re.search(rf"│ {command}\s", text), command


def test_help_begins_with_what_the_product_is() -> None:
    assert "Self-hosted fine-tuning that keeps tuned models safe." in invoke("--help")[1]


def test_the_version_is_that_of_the_distribution() -> None:
    assert invoke("--version") == (0, f"tuneward {version('tuneward')}\n")


def test_no_argument_at_all_shows_the_help() -> None:
    assert "--version" in invoke()[1]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from cli.main import app\n"
        "assert CliRunner().invoke(app, ['serve', '--help']).exit_code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )

    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert loaded.strip() == "[]"


def test_a_setting_out_of_range_is_named_as_the_variable_to_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNEWARD_PORT", "99999")

    code, text = invoke("models", "list")

    assert code == 1
    assert "TUNEWARD_PORT: must be at most 65535" in text
    assert "Traceback" not in text


def test_a_setting_that_is_no_number_is_named_in_plain_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNEWARD_PORT", "canary")

    code, text = invoke("models", "list")

    assert code == 1
    assert "TUNEWARD_PORT: must be a whole number" in text
    assert "canary" not in text


def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TUNEWARD_HARMFUL_RATELIMIT", "0.1")
    monkeypatch.setenv("TUNEWARD_PUBLISH", "8000")

    code, text = invoke("models", "list")

    assert code == 0
    assert text.count("no setting is called") == 1
    assert (
        "no setting is called TUNEWARD_HARMFUL_RATELIMIT; it is ignored."
        " Did you mean TUNEWARD_HARMFUL_RATE_LIMIT?"
    ) in " ".join(text.split())


@pytest.mark.parametrize("command", [(), ("serve",), ("keys",), ("keys", "create"), ("models",)])
def test_help_is_shown_as_a_flag(command: tuple[str, ...]) -> None:
    code, text = invoke(*command, "--help")

    assert code == 0
    assert "--help" in text
    assert "bool" not in text


@pytest.mark.parametrize("command", ["gateway", "worker", "relay", "reconciler", "webhook-sender"])
def test_a_process_without_a_database_says_what_to_set(command: str) -> None:
    code, text = invoke(command)

    assert code == 1
    assert "Set TUNEWARD_DATABASE_URL" in text
    assert "tuneward serve" in text


def test_the_shipped_model_is_listed() -> None:
    code, text = invoke("models", "list")

    assert code == 0
    assert "smollm2-135m-instruct" in text


def test_an_unknown_model_is_one_sentence_and_exit_code_one(tmp_path: Path) -> None:
    code, text = invoke("models", "prepare", "no-such-model", "--home", str(tmp_path))

    assert code == 1
    assert "no such model" in text
    assert "Known models: smollm2-135m-instruct" in text


def test_missing_public_rows_are_one_sentence(tmp_path: Path) -> None:
    code, text = invoke(
        "moderation", "train", "--public-rows", str(tmp_path), "--output", str(tmp_path / "head")
    )

    assert code == 1
    assert "cannot be read" in text
    assert "Traceback" not in text


def test_aligning_shows_the_defaults_that_the_shipped_adapter_was_trained_with() -> None:
    _, text = invoke("models", "align", "--help")

    method = SupervisedAlignmentConfig()
    for option in ("epochs", "refusal_repeats", "learning_rate", "batch_size", "lora_rank", "seed"):
        line = re.search(
            rf"--{option.replace('_', '-')}\s.*?\[default: \(?([\d.]+)", text, re.DOTALL
        )
        assert line is not None, option
        assert float(line[1]) == getattr(method, option)
    assert method.lora_alpha == 2 * method.lora_rank


def test_what_aligning_is_not_told_is_left_to_the_method(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[SupervisedAlignmentConfig] = []
    monkeypatch.setattr("cli.alignment.align_model", lambda *arguments: asked.append(arguments[-1]))

    command = ("models", "align", "smollm2-135m-instruct", "--output", str(tmp_path / "out"))
    assert invoke(*command)[0] == 0
    assert invoke(*command, "--lora-rank", "4")[0] == 0

    assert asked == [
        SupervisedAlignmentConfig(),
        SupervisedAlignmentConfig(lora_rank=4, lora_alpha=8.0),
    ]


def test_aligning_by_another_method_takes_its_options_as_pairs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[BoosterConfig] = []
    monkeypatch.setattr("cli.alignment.align_model", lambda *arguments: asked.append(arguments[-1]))
    command = ("models", "align", "smollm2-135m-instruct", "--output", str(tmp_path / "out"))
    chosen = ("--method", "booster", "--epochs", "2")

    assert invoke(*command, *chosen, "--option", "perturbation_radius=0.2")[0] == 0
    code, text = invoke(*command, *chosen, "--option", "radius=0.2")

    assert asked == [BoosterConfig(epochs=2, perturbation_radius=0.2)]
    assert code == 1
    assert "radius: is no option of 'booster'" in text
