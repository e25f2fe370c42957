"""API keys from the command line, in a real database."""

from datetime import timedelta

import pytest

from cli import projects
from cli.keys import create, first_api_key, new_api_key, revoke, rotate, show_keys
from core.api_keys import authenticate
from core.database import Database
from core.errors import AuthenticationError, ConflictError, NotFoundError
from core.models import Scope
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


@pytest.fixture
def configured(settings: Settings, fresh_database_url: str) -> Settings:
    return settings.model_copy(update={"database_url": fresh_database_url})


def test_only_the_key_goes_to_standard_output(
    configured: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    create(configured, "research", "nightly")

    printed = capsys.readouterr()
    assert printed.out.startswith("tw_")
    assert len(printed.out.split()) == 1
    assert "research" in printed.err


def lines(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_a_key_gets_the_scopes_that_were_asked_for(
    fresh_database: Database, configured: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    create(configured, "ops", "admin", scopes=["admin", "read", "admin"])
    text = capsys.readouterr().out.strip()
    first = first_api_key(fresh_database)

    with fresh_database.session() as session:
        assert authenticate(session, text).scopes == [Scope.ADMIN, Scope.READ]
        assert first is not None
        assert authenticate(session, first).scopes == [Scope.READ, Scope.TRAIN]
    fresh_database.dispose()


def test_keys_are_listed_rotated_and_revoked_by_their_ids(
    fresh_database: Database, configured: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    old = new_api_key(fresh_database, "ours", "nightly")
    new_api_key(fresh_database, "theirs", "other", lifetime=timedelta(days=-1))
    show_keys(configured, None)
    ours, theirs = lines(capsys)

    rotate(configured, ours[0])
    new = capsys.readouterr().out.strip()
    revoke(configured, theirs[0])
    capsys.readouterr()
    show_keys(configured, "theirs")
    (revoked,) = lines(capsys)

    assert ours[1:] == ["ours", "nightly", "read, train", "usable", "never"]
    assert theirs[4].startswith("expired ")
    assert revoked[:2] == [theirs[0], "theirs"]
    assert revoked[4] == "revoked"
    with fresh_database.session() as session:
        assert authenticate(session, new).id == ours[0]
        with pytest.raises(AuthenticationError):
            authenticate(session, old)
    fresh_database.dispose()


def test_unknown_keys_and_projects_are_named_with_the_command_that_lists_them(
    configured: Settings,
) -> None:
    for act in (rotate, revoke, show_keys):
        with pytest.raises(NotFoundError, match="nobody") as caught:
            act(configured, "nobody")
        assert "list" in str(caught.value.hint)


def test_a_project_is_created_once_and_shows_its_limits(
    configured: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    projects.create(configured, "research", {"running_jobs_limit": 2, "file_rows_limit": None})
    ((project_id,),) = lines(capsys)

    projects.show_projects(configured)

    (row,) = lines(capsys)
    assert row[:4] == [project_id, "research", "2", str(configured.project_queued_jobs)]
    with pytest.raises(ConflictError):
        projects.create(configured, "research", {})
