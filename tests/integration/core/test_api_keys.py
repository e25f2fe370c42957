"""API keys from their creation to their end, as a request meets them."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from core import api_keys
from core.api_keys import authenticate
from core.database import Database
from core.errors import AuthenticationError, NotFoundError
from core.models import ApiKey
from core.provision import ProvisionedKey, create_key, ensure_project, rotate_key
from core.repositories.api_keys import ApiKeyRepository


def new_key(
    database: Database, project: str = "acme", lifetime: timedelta | None = None
) -> ProvisionedKey:
    with database.session() as session:
        return create_key(session, project_name=project, name="laptop", lifetime=lifetime)


def opens(database: Database, text_of_key: str) -> str:
    with database.session() as session:
        return authenticate(session, text_of_key).project_id


def stored(database: Database, key: ProvisionedKey) -> ApiKey:
    with database.session() as session:
        found = ApiKeyRepository(session).find(key.id)
    assert found is not None
    return found


def test_a_key_opens_its_own_project(clean_database: Database) -> None:
    acme, other = new_key(clean_database), new_key(clean_database, "other")

    assert opens(clean_database, acme.text) == acme.project_id
    assert opens(clean_database, other.text) == other.project_id
    assert acme.project_id != other.project_id


def test_two_keys_can_live_in_one_project(clean_database: Database) -> None:
    first, second = new_key(clean_database), new_key(clean_database)

    with clean_database.session() as session:
        listed = ApiKeyRepository(session).list_for_project(first.project_id)

    assert [key.id for key in listed] == [first.id, second.id]
    assert opens(clean_database, second.text) == first.project_id


def test_the_database_never_sees_the_secret(clean_database: Database) -> None:
    key = new_key(clean_database)
    secret = key.text.split("_")[2]

    with clean_database.session() as session:
        rows = session.execute(text("SELECT to_jsonb(api_keys)::text FROM api_keys")).scalars()
        assert all(secret not in row for row in rows)


def test_an_unknown_key_is_refused(clean_database: Database) -> None:
    with pytest.raises(AuthenticationError):
        opens(clean_database, api_keys.generate().text)


def test_a_known_key_with_another_secret_is_refused(clean_database: Database) -> None:
    key, stranger = new_key(clean_database), new_key(clean_database)
    with clean_database.session() as session:
        session.execute(
            text("UPDATE api_keys SET secret_sha256 = 'other' WHERE id = :id"), {"id": key.id}
        )

    with pytest.raises(AuthenticationError):
        opens(clean_database, key.text)
    assert opens(clean_database, stranger.text) == stranger.project_id


def test_a_revoked_key_is_refused_at_once(clean_database: Database) -> None:
    key = new_key(clean_database)

    with clean_database.session() as session:
        ApiKeyRepository(session).revoke(key.project_id, key.id)

    with pytest.raises(AuthenticationError):
        opens(clean_database, key.text)


def test_a_project_cannot_revoke_the_key_of_another(clean_database: Database) -> None:
    key, other = new_key(clean_database), new_key(clean_database, "other")

    with pytest.raises(NotFoundError), clean_database.session() as session:
        ApiKeyRepository(session).revoke(other.project_id, key.id)

    assert opens(clean_database, key.text) == key.project_id


def test_a_rotated_key_keeps_its_id_and_scopes_and_its_old_text_opens_nothing(
    clean_database: Database,
) -> None:
    key = new_key(clean_database)
    before = stored(clean_database, key)

    with clean_database.session() as session:
        new_text = rotate_key(session, key.project_id, key.id)

    after = stored(clean_database, key)
    assert opens(clean_database, new_text) == key.project_id
    assert (after.name, after.scopes, after.expires_at) == ("laptop", before.scopes, None)
    assert after.public_id != before.public_id
    with pytest.raises(AuthenticationError):
        opens(clean_database, key.text)


def test_a_revoked_key_and_the_key_of_another_project_cannot_be_rotated(
    clean_database: Database,
) -> None:
    revoked, other = new_key(clean_database), new_key(clean_database, "other")
    with clean_database.session() as session:
        ApiKeyRepository(session).revoke(revoked.project_id, revoked.id)

    for key_id in (revoked.id, other.id):
        with pytest.raises(NotFoundError), clean_database.session() as session:
            rotate_key(session, revoked.project_id, key_id)

    assert opens(clean_database, other.text) == other.project_id


def test_a_key_may_read_and_train_unless_told_otherwise(clean_database: Database) -> None:
    key = new_key(clean_database)

    # As the release before scopes wrote it.
    with clean_database.session() as session:
        session.execute(
            text(
                "INSERT INTO api_keys (id, project_id, public_id, secret_sha256, name)"
                " VALUES ('key-old', :project, 'old', 'x', 'old')"
            ),
            {"project": key.project_id},
        )
        scopes = [row.scopes for row in ApiKeyRepository(session).list_for_project(key.project_id)]

    assert scopes == [["read", "train"]] * 2


def test_an_expired_key_is_refused(clean_database: Database) -> None:
    living = new_key(clean_database, lifetime=timedelta(hours=1))
    expired = new_key(clean_database, lifetime=-timedelta(seconds=1))

    assert opens(clean_database, living.text) == living.project_id
    with pytest.raises(AuthenticationError):
        opens(clean_database, expired.text)


def test_using_a_key_is_noted_once_a_minute(clean_database: Database) -> None:
    key = new_key(clean_database)
    uses = []

    for _ in range(2):
        opens(clean_database, key.text)
        with clean_database.session() as session:
            (row,) = ApiKeyRepository(session).list_for_project(key.project_id)
            uses.append(row.last_used_at)

    assert uses[0] is not None
    assert uses[0] == uses[1]


def test_a_project_is_created_once(clean_database: Database) -> None:
    with clean_database.session() as session:
        first = ensure_project(session, "acme")
        second = ensure_project(session, "acme")

    assert first.id == second.id
