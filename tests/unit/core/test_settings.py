from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from core.settings import Settings


def test_durations_are_read_as_seconds_or_as_iso_8601(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWARD_LEASE_DURATION", "90")
    monkeypatch.setenv("TUNEWARD_JOB_DEADLINE", "PT2H")

    settings = Settings()

    assert settings.lease_duration == timedelta(seconds=90)
    assert settings.job_deadline == timedelta(hours=2)


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWARD_DATABASE_URL", "")

    assert Settings().database_url is None


def test_the_storage_lies_under_home_unless_placed_elsewhere(tmp_path: Path) -> None:
    assert Settings(home=tmp_path).storage_path == tmp_path / "storage"
    assert Settings(home=tmp_path, storage_root=Path("/srv/s")).storage_path == Path("/srv/s")


def test_a_leading_tilde_means_the_users_folder() -> None:
    assert Settings(home=Path("~/elsewhere")).home == Path.home() / "elsewhere"


def test_addresses_do_not_appear_in_the_representation() -> None:
    settings = Settings(database_url="postgresql://user:canary@host/db")

    assert "canary" not in repr(settings)


@pytest.mark.parametrize(
    ("heartbeat", "self_fence", "lease"), [(10, 60, 60), (45, 45, 60), (10, 70, 60)]
)
def test_a_lease_must_outlive_the_self_fence_and_that_the_heartbeat(
    heartbeat: int, self_fence: int, lease: int
) -> None:
    with pytest.raises(ValidationError, match="lease_duration must hold"):
        Settings(
            heartbeat_interval=timedelta(seconds=heartbeat),
            self_fence_after=timedelta(seconds=self_fence),
            lease_duration=timedelta(seconds=lease),
        )


def test_a_source_without_a_known_scheme_is_refused() -> None:
    with pytest.raises(ValidationError, match="resource:, path: or hub:"):
        Settings(harmful_rows="/srv/rows.jsonl")


def test_the_sequence_classifier_needs_a_model() -> None:
    with pytest.raises(ValidationError, match="moderation_model"):
        Settings(moderation_backend="sequence_classifier")


def test_settings_cannot_be_changed_after_the_start(settings: Settings) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
