"""What surrounds every request: its id, its log line, its size limit, and the last net.

Written as plain ASGI, so that request and answer bodies stream through untouched.
"""

import re
import time
import traceback
from typing import Final

import anyio
import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import crash_response, error_response
from core.errors import PayloadTooLargeError
from core.ids import random_text

_log = structlog.get_logger(__name__)

REQUEST_ID_HEADER: Final = "x-request-id"
UPLOAD_PATH: Final = "/v1/files"
_PART_PATH: Final = re.compile(r"/v1/uploads/[^/]+/parts")
# What a multipart body adds to the file: boundaries, part headers, the other fields.
UPLOAD_OVERHEAD_BYTES: Final = 64 * 1024
# A client that is told off in the middle of its body reads the answer only if we keep listening.
_DRAINED_BYTES: Final = 8 * 1024 * 1024
_DRAIN_SECONDS: Final = 2.0
_FIRST_ERROR: Final = 400
_OUR_ID: Final = re.compile(r"(file|ftjob|upload)-[0-9A-Za-z]{1,64}")


class RequestContextMiddleware:
    """Gives each request an id, in its log lines and its answer, and catches what nobody caught."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = f"req_{random_text(24)}"
        started = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                header = (REQUEST_ID_HEADER.encode(), request_id.encode())
                message["headers"] = [*message.get("headers", []), header]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception as error:  # the one broad net of this process
                _log_crash(error)
                if status:  # half an answer is out: only breaking off tells the client
                    raise
                await crash_response()(scope, receive, send_with_id)
            finally:
                _log_request(scope, status, time.perf_counter() - started)


class BodyLimitMiddleware:
    """Stops reading a body that is larger than its route allows.

    Args:
        app: The application.
        max_request_bytes: Limit for bodies held in memory.
        max_upload_bytes: Limit for the file of an upload, which is streamed.
        max_part_bytes: Limit for one part of an upload in parts, streamed likewise.
    """

    def __init__(
        self, app: ASGIApp, *, max_request_bytes: int, max_upload_bytes: int, max_part_bytes: int
    ) -> None:
        self._app = app
        self._max_request_bytes = max_request_bytes
        self._max_upload_bytes = max_upload_bytes + UPLOAD_OVERHEAD_BYTES
        self._max_part_bytes = max_part_bytes + UPLOAD_OVERHEAD_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, counting its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _CountedBody(receive, self._limit(scope))

        async def send_after_body(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] >= _FIRST_ERROR:
                await body.drain()
            await send(message)

        if _declared_length(scope) > body.limit:
            await error_response(too_large(body.limit))(scope, receive, send_after_body)
        else:
            await self._app(scope, body.receive, send_after_body)

    def _limit(self, scope: Scope) -> int:
        if scope["method"] == "POST" and scope["path"] == UPLOAD_PATH:
            return self._max_upload_bytes
        if scope["method"] == "POST" and _PART_PATH.fullmatch(scope["path"]):
            return self._max_part_bytes
        return self._max_request_bytes


class _CountedBody:
    """A request body that refuses to grow past its limit."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self.limit = limit
        self._receive = receive
        self._bytes = 0
        self._complete = False

    async def receive(self) -> Message:
        message = await self._next()
        if self._bytes > self.limit:
            raise too_large(self.limit)
        return message

    async def drain(self) -> None:
        """Read on for a little while and forget it, so that the client gets to our answer."""
        end = self._bytes + _DRAINED_BYTES
        with anyio.move_on_after(_DRAIN_SECONDS):
            while not self._complete and self._bytes < end:
                await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        self._complete = self._complete or not message.get("more_body", False)
        return message


def too_large(limit: int) -> PayloadTooLargeError:
    """Say how much is allowed."""
    return PayloadTooLargeError(f"The body is larger than {limit} bytes.")


def _declared_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return 0


def _log_request(scope: Scope, status: int, seconds: float) -> None:
    """Write the access line: the operation and our ids, never an address as it came."""
    route = scope.get("route")
    ids = {
        name: value
        for name, value in scope.get("path_params", {}).items()
        if isinstance(value, str) and _OUR_ID.fullmatch(value)
    }
    _log.info(
        "request",
        method=scope["method"],
        operation=getattr(route, "operation_id", None),
        status=status,
        seconds=round(seconds, 4),
        **ids,
    )


def _log_crash(error: Exception) -> None:
    """Log where it happened; an exception's text may hold a row or a key."""
    _log.error(
        "request_crashed",
        error_type=f"{type(error).__module__}.{type(error).__qualname__}",
        frames=[
            f"{frame.filename}:{frame.lineno} {frame.name}"
            for frame in traceback.extract_tb(error.__traceback__)
        ],
    )
