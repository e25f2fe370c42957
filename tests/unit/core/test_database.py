import pytest

from core.database import Database, normalise_url
from core.errors import UnavailableError
from core.settings import Settings


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "postgresql+asyncpg"])
def test_every_postgres_address_is_read_as_one_for_psycopg(scheme: str) -> None:
    url = normalise_url(f"{scheme}://user:p%40ss@host:5433/name?sslmode=require")

    assert url.drivername == "postgresql+psycopg"
    assert (url.password, url.port, url.query["sslmode"]) == ("p@ss", 5433, "require")


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(ValueError, match="only Postgres"):
        Database("sqlite:///file.db")


def test_settings_without_an_address_say_what_to_set(settings: Settings) -> None:
    with pytest.raises(ValueError, match="TUNEWARD_DATABASE_URL"):
        Database.from_settings(settings)


def test_a_database_that_is_not_there_is_unavailable() -> None:
    database = Database("postgresql://nobody@127.0.0.1:1/nothing")

    with pytest.raises(UnavailableError) as refusal:
        database.ping()

    assert refusal.value.retryable
    database.dispose()
