"""Token buckets in Postgres, drawn from by several gateways at once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlalchemy import text

from core.database import Database
from core.repositories.request_buckets import MINUTE, Draw, RequestBucketRepository


def draw(database: Database, key_id: str = "key-1", per_minute: int = 3) -> Draw:
    with database.session() as session:
        return RequestBucketRepository(session).draw(key_id, per_minute)


def wait(database: Database, seconds: float) -> None:
    """Let time pass for all buckets."""
    with database.session() as session:
        session.execute(
            text("UPDATE request_buckets SET full_at = full_at - make_interval(secs => :seconds)"),
            {"seconds": seconds},
        )


def test_a_full_bucket_gives_as_many_as_the_limit_and_then_says_when(
    clean_database: Database,
) -> None:
    draws = [draw(clean_database) for _ in range(4)]

    assert [taken.remaining for taken in draws] == [2, 1, 0, 0]
    assert [taken.retry_after is None for taken in draws] == [True, True, True, False]
    assert draws[0].full_after == timedelta(seconds=20)
    assert draws[3].retry_after is not None
    assert timedelta(seconds=15) < draws[3].retry_after <= timedelta(seconds=20)
    assert draws[3].full_after <= MINUTE


def test_a_bucket_fills_steadily_and_never_past_its_limit(clean_database: Database) -> None:
    for _ in range(3):
        draw(clean_database)

    wait(clean_database, 20)
    one = [draw(clean_database).retry_after is None for _ in range(2)]
    wait(clean_database, 3600)
    all_again = [draw(clean_database).retry_after is None for _ in range(4)]

    assert one == [True, False]
    assert all_again == [True, True, True, False]


def test_being_refused_costs_nothing(clean_database: Database) -> None:
    refused = [draw(clean_database) for _ in range(10)][-1]
    assert refused.retry_after is not None

    wait(clean_database, refused.retry_after.total_seconds())

    assert draw(clean_database).retry_after is None


@pytest.mark.parametrize("per_minute", [1, 7, 600])
def test_exactly_the_limit_fits_into_a_bucket(clean_database: Database, per_minute: int) -> None:
    draws = [draw(clean_database, per_minute=per_minute) for _ in range(per_minute)]

    assert draws[0].remaining == per_minute - 1
    assert all(taken.retry_after is None for taken in draws)


def test_keys_have_buckets_of_their_own(clean_database: Database) -> None:
    for _ in range(4):
        draw(clean_database, "key-1")

    assert draw(clean_database, "key-2").remaining == 2


@pytest.mark.usefixtures("clean_database")
def test_several_gateways_draw_from_one_bucket(database_url: str) -> None:
    gateways = [Database(database_url) for _ in range(3)]
    start = threading.Barrier(12)

    def request(number: int) -> bool:
        start.wait()
        return draw(gateways[number % 3], per_minute=5).retry_after is None

    with ThreadPoolExecutor(12) as pool:
        allowed = list(pool.map(request, range(12)))
    for gateway in gateways:
        gateway.dispose()

    assert allowed.count(True) == 5
