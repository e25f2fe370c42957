"""What the demo makes of a job that did not succeed, and of reports it cannot read."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from openai.types.fine_tuning import FineTuningJob

from cli.demo import command
from cli.demo.client import DemoClient, Download
from cli.errors import DemoError
from core.settings import Settings
from tests.unit.cli.reports import raw_report, scores


class FakeDemoClient:
    """Answers each download with a report."""

    def __init__(self, report: dict[str, Any]) -> None:
        self.downloaded: list[str] = []
        self._report = report

    def download(self, file_id: str, path: Path) -> Download:
        self.downloaded.append(file_id)
        path.write_text(json.dumps(self._report), encoding="utf-8")
        return Download(path=path, announced_sha256=None)


def blocked_report() -> dict[str, Any]:
    report = raw_report(base=scores(0.9), tuned=scores(0.9), guarded=scores(0.4))
    report["decision"] = {"verdict": "blocked", "reasons": ["Above the limit of 20%."]}
    return report


def job(**fields: Any) -> FineTuningJob:  # noqa: ANN401 - each field has its own type
    return FineTuningJob.construct(id="ftjob-1", **fields)


def require_success(client: FakeDemoClient, finished: FineTuningJob, output: Path) -> None:
    command._require_success(cast("DemoClient", client), finished, output)


def test_a_blocked_job_shows_its_table_before_it_fails_the_demo(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = FakeDemoClient(blocked_report())
    error = {"code": "model_policy_violation", "message": "Not released."}
    finished = job(status="failed", error=error, result_files=["file-metrics", "file-report"])

    with pytest.raises(DemoError, match="model_policy_violation: Not released"):
        require_success(client, finished, tmp_path)

    assert client.downloaded == ["file-report"]
    printed = capsys.readouterr().out
    assert "40.0 (35-45)" in printed
    assert "Blocked (Above the limit of 20%.)" in printed


def test_a_job_that_failed_before_the_gate_has_nothing_to_show(tmp_path: Path) -> None:
    client = FakeDemoClient({})

    with pytest.raises(DemoError, match="no reason given"):
        require_success(client, job(status="cancelled", error=None, result_files=[]), tmp_path)

    assert client.downloaded == []


def test_a_job_that_succeeded_passes(tmp_path: Path) -> None:
    client = FakeDemoClient({})

    require_success(client, job(status="succeeded", fine_tuned_model="ft:x"), tmp_path)

    assert client.downloaded == []


def test_a_report_of_another_form_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text('{"version": 99}', encoding="utf-8")

    with pytest.raises(DemoError, match="cannot be read"):
        command._read_report(path)


def test_what_an_earlier_demo_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").touch()
    (tmp_path / "adapter.tar").touch()
    (tmp_path / "notes.txt").touch()

    command._empty(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_demo_keeps_its_state_away_from_that_of_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUNEWARD_HOME", raising=False)

    settings = command.demo_settings(Settings(), tmp_path)

    assert settings.home == tmp_path / "home"
    assert settings.home != Settings().home


def test_a_demo_asks_for_answers_as_long_as_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = command.demo_settings(Settings(), tmp_path)
    monkeypatch.setenv("TUNEWARD_EVALUATION_ANSWER_TOKENS", "64")
    chosen = command.demo_settings(Settings(), tmp_path)

    assert usual.evaluation_answer_tokens == 32
    assert chosen.evaluation_answer_tokens == 64


def test_a_demo_uses_the_home_that_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWARD_HOME", str(tmp_path / "chosen"))

    settings = command.demo_settings(Settings(), tmp_path)

    assert settings.home == tmp_path / "chosen"
