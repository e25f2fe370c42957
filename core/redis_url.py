"""Redis addresses in the two spellings that our libraries want."""

from urllib.parse import parse_qs, urlsplit


def celery_broker_url(redis_url: str) -> str:
    """Return a redis-py address as Celery spells it.

    Only sockets differ: redis-py says `unix:///path?db=0`, Celery
    `redis+socket:///path?virtual_host=0`.
    """
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"
