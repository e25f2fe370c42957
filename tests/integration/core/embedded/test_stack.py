"""The embedded servers are real ones, keep their data, and leave nothing behind."""

from pathlib import Path

import psycopg
import pytest
import redis

from core.embedded.errors import EmbeddedServerError, ServerStartError
from core.embedded.ownership import StackState
from core.embedded.stack import EmbeddedStack
from core.settings import Settings


def run_sql(stack: EmbeddedStack, statement: str) -> list[tuple[object, ...]]:
    address = stack.database_url.replace("+psycopg", "", 1)
    with psycopg.connect(address) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def redis_of(stack: EmbeddedStack) -> redis.Redis:
    return redis.Redis.from_url(stack.redis_url, decode_responses=True)


def test_data_are_kept_between_two_starts(settings: Settings) -> None:
    with EmbeddedStack(settings) as first, redis_of(first) as client:
        run_sql(first, "CREATE TABLE kept AS SELECT 7 AS number")
        client.set("kept", "7")

    with EmbeddedStack(settings) as second, redis_of(second) as client:
        rows = run_sql(second, "SELECT number FROM kept")
        value = client.get("kept")

    assert rows == [(7,)]
    assert value == "7"


def test_servers_have_the_settings_that_a_queue_and_a_record_of_truth_need(
    embedded_stack: EmbeddedStack,
) -> None:
    fsync = run_sql(embedded_stack, "SHOW fsync")
    addresses = run_sql(embedded_stack, "SHOW listen_addresses")
    with redis_of(embedded_stack) as client:
        appendonly = client.config_get("appendonly")
        policy = client.config_get("maxmemory-policy")
        port = client.config_get("port")

    assert fsync == [("on",)]
    assert addresses == [("",)]
    assert appendonly == {"appendonly": "yes"}
    assert policy == {"maxmemory-policy": "noeviction"}
    assert port == {"port": "0"}


def test_killed_servers_come_back_at_the_same_address_with_what_was_committed(
    settings: Settings,
) -> None:
    with EmbeddedStack(settings) as stack:
        addresses = stack.environment()
        run_sql(stack, "CREATE TABLE kept AS SELECT 7 AS number")

        stack.kill_postgres()
        stack.restart_postgres()
        stack.kill_redis()
        stack.restart_redis()

        assert run_sql(stack, "SELECT number FROM kept") == [(7,)]
        with redis_of(stack) as client:
            assert client.ping()
        assert stack.environment() == addresses


def test_nothing_is_left_after_stop(settings: Settings) -> None:
    with EmbeddedStack(settings) as stack:
        state = StackState.read(settings.home / "embedded" / "state.json")
    assert state is not None

    stack.stop()

    assert not (settings.home / "embedded" / "state.json").exists()
    for server in state.servers:
        assert not Path(server.socket_folder).exists()
        assert not Path(f"/proc/{server.pid}").exists()


def test_configured_servers_are_used_and_none_is_started(home: Path) -> None:
    configured = Settings(home=home, database_url="postgresql://db/x", redis_url="redis://cache/1")

    with EmbeddedStack(configured) as stack:
        addresses = (stack.database_url, stack.redis_url)

    assert addresses == ("postgresql://db/x", "redis://cache/1")
    assert not (home / "embedded").exists()


def test_the_stack_fills_in_addresses_for_settings_and_child_processes(
    embedded_stack: EmbeddedStack, settings: Settings
) -> None:
    filled = embedded_stack.apply_to(settings)

    assert filled.database_url == embedded_stack.environment()["TUNEWARD_DATABASE_URL"]
    assert filled.redis_url == embedded_stack.environment()["TUNEWARD_REDIS_URL"]
    assert filled.home == settings.home


def test_a_server_that_cannot_start_says_why_in_its_own_words(settings: Settings) -> None:
    with EmbeddedStack(settings):
        pass
    version = settings.home / "embedded" / "postgres" / "PG_VERSION"
    version.write_text("9.1\n", encoding="ascii")

    with pytest.raises(ServerStartError, match=r"initialized by PostgreSQL version 9\.1"):
        EmbeddedStack(settings).start()


def test_a_failed_start_leaves_the_home_free_for_the_next_one(settings: Settings) -> None:
    with EmbeddedStack(settings):
        pass
    version = settings.home / "embedded" / "postgres" / "PG_VERSION"
    right = version.read_text(encoding="ascii")
    version.write_text("9.1\n", encoding="ascii")
    with pytest.raises(ServerStartError):
        EmbeddedStack(settings).start()
    version.write_text(right, encoding="ascii")

    with EmbeddedStack(settings) as stack:
        assert stack.is_owner


def test_addresses_are_refused_before_the_stack_is_started(settings: Settings) -> None:
    stack = EmbeddedStack(settings)

    with pytest.raises(EmbeddedServerError, match="not started"):
        _ = stack.database_url
