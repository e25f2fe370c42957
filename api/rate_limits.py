"""How many requests a key may send: drawn from its bucket in Postgres, told in every answer."""

import math
from datetime import timedelta
from typing import Final

import structlog
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.state import GatewayState
from core.errors import RateLimitedError, UnavailableError
from core.repositories.request_buckets import Draw, RequestBucketRepository

_log = structlog.get_logger(__name__)

_DRAW: Final = "rate_limit_draw"
_SECOND: Final = timedelta(seconds=1)


def draw_request(request: Request, state: GatewayState, key_id: str) -> None:
    """Count one request of a key, and remember for the answer what is left.

    A bucket that cannot be reached stops nobody: what the request needs of the database will fail
    by itself, and a key in good standing must not suffer from a held lock.

    Raises:
        RateLimitedError: The bucket is empty.
    """
    per_minute = state.settings.requests_per_minute
    if per_minute == 0:
        return
    try:
        with state.database.session() as session:
            draw = RequestBucketRepository(session).draw(key_id, per_minute)
    except UnavailableError:
        _log.warning("rate_limit_not_counted")
        return
    setattr(request.state, _DRAW, draw)
    if draw.retry_after is not None:
        raise RateLimitedError(
            f"This key has sent more than {per_minute} requests within a minute.",
            retry_after_seconds=max(1, math.ceil(draw.retry_after / _SECOND)),
        )


class RateLimitHeadersMiddleware:
    """Tells the caller in every answer how many requests are left."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        state = scope.setdefault("state", {})

        async def send_with_limits(message: Message) -> None:
            draw = state.get(_DRAW)
            if message["type"] == "http.response.start" and draw is not None:
                message["headers"] = [*message.get("headers", []), *_headers(draw)]
            await send(message)

        await self._app(scope, receive, send_with_limits)


def duration_text(duration: timedelta) -> str:
    """Write a duration as OpenAI's headers do: `12ms`, `1.5s`, `1m0s`."""
    milliseconds = math.ceil(duration / timedelta(milliseconds=1))
    if milliseconds < _SECOND / timedelta(milliseconds=1):
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = f"{rest / 1000:g}s"
    return f"{minutes}m{seconds}" if minutes else seconds


def _headers(draw: Draw) -> list[tuple[bytes, bytes]]:
    values = {
        "limit": str(draw.limit),
        "remaining": str(draw.remaining),
        "reset": duration_text(draw.full_after),
    }
    return [
        (f"x-ratelimit-{name}-requests".encode(), value.encode()) for name, value in values.items()
    ]
