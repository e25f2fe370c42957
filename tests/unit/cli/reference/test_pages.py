"""The reference pages in ``docs/`` say what the code says."""

from pathlib import Path

import pytest

from cli.reference.errors import JOB_CODES
from cli.reference.pages import PAGES
from core.job_state import JobErrorCode
from core.settings import Settings

FOLDER = Path(__file__).resolve().parents[4] / "docs" / "reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_current(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")

    assert written == PAGES[name](), "run: python -m cli.reference"


def test_every_setting_says_what_it_is_for() -> None:
    silent = [name for name, field in Settings.model_fields.items() if not field.description]

    assert silent == []


def test_every_code_of_a_failed_job_says_what_to_do() -> None:
    assert set(JOB_CODES) == set(JobErrorCode)
