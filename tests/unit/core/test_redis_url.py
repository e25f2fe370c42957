import pytest

from core.redis_url import celery_broker_url


@pytest.mark.parametrize(
    ("redis_url", "expected"),
    [
        ("unix:///run/redis.sock?db=0", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
        ("unix:///run/redis.sock", "redis+socket:///run/redis.sock?virtual_host=0"),
        ("redis://:secret@cache:6379/1", "redis://:secret@cache:6379/1"),
        ("rediss://cache:6379/1", "rediss://cache:6379/1"),
    ],
)
def test_only_socket_addresses_are_spelled_differently(redis_url: str, expected: str) -> None:
    assert celery_broker_url(redis_url) == expected
