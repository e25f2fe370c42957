import pytest

from core.resources import resource_path


def test_a_shipped_folder_is_found() -> None:
    assert resource_path("rows").is_dir()


def test_a_missing_resource_is_named_in_the_error() -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        resource_path("rows/nothing.jsonl")


def test_a_name_cannot_lead_out_of_the_resources() -> None:
    with pytest.raises(ValueError, match="not below"):
        resource_path("../pyproject.toml")
