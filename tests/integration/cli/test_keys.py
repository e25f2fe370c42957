"""API keys from the command line, in a real database."""

from datetime import timedelta

import pytest

from cli.keys import create, first_api_key, new_api_key
from core.api_keys import authenticate
from core.database import Database
from core.errors import AuthenticationError
from core.provision import ensure_project
from core.settings import Settings


@pytest.fixture
def fresh_database(fresh_database_url: str) -> Database:
    return Database(fresh_database_url)


def test_the_first_key_is_given_out_once(fresh_database: Database) -> None:
    first = first_api_key(fresh_database)
    second = first_api_key(fresh_database)

    assert first is not None
    assert second is None
    with fresh_database.session() as session:
        assert authenticate(session, first).project_id == ensure_project(session).id
    fresh_database.dispose()


def test_a_key_opens_its_own_project(fresh_database: Database) -> None:
    ours = new_api_key(fresh_database, "ours", "test")
    theirs = new_api_key(fresh_database, "theirs", "test")

    with fresh_database.session() as session:
        projects = {authenticate(session, key).project_id for key in (ours, theirs)}
        assert projects == {ensure_project(session, name).id for name in ("ours", "theirs")}
    fresh_database.dispose()


def test_a_key_with_a_lifetime_ends(fresh_database: Database) -> None:
    expired = new_api_key(fresh_database, "ours", "test", lifetime=timedelta(seconds=-1))

    with fresh_database.session() as session, pytest.raises(AuthenticationError):
        authenticate(session, expired)
    fresh_database.dispose()


def test_only_the_key_goes_to_standard_output(
    settings: Settings, fresh_database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configured = settings.model_copy(update={"database_url": fresh_database_url})

    create(configured, "research", "nightly")

    printed = capsys.readouterr()
    assert printed.out.startswith("tw_")
    assert len(printed.out.split()) == 1
    assert "research" in printed.err
