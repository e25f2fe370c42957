"""`tuneward inference`: an HTTP server on a private address, for the gateway alone.

Whoever shows the shared secret may ask for any released archive, so tenants never reach it; the
gateway decides who may use which model. Its storage holds released files and nothing else.
"""

import asyncio
import hmac
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from core.errors import TunewardError
from core.inference import (
    ANSWERS_PATH,
    EMBEDDINGS_PATH,
    HEALTH_PATH,
    MODERATIONS_PATH,
    PROJECT_HEADER,
    AnswerEnded,
    AnswerFailed,
    AnswerLine,
    AnswerRequest,
    Refusal,
    TextsToEmbed,
    TextsToJudge,
)
from core.log import configure_logging
from core.settings import Settings
from worker.inference.engine import Engine
from worker.trainer_process import LIBRARY_VARIABLES

if TYPE_CHECKING:
    from worker.inference.answers import Answer

SHUTDOWN_SECONDS: Final = 10

_log = structlog.get_logger(__name__)


def create_app(settings: Settings) -> ASGIApp:
    """Build the application; it loads nothing before its first request."""
    engine = Engine(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        unloading = asyncio.create_task(engine.unload_when_idle())
        yield
        unloading.cancel()
        with suppress(asyncio.CancelledError):
            await unloading
        engine.close()

    async def judge(request: Request) -> Response:
        asked = TextsToJudge.model_validate_json(await request.body())
        with engine.judging.slot(_project(request)):
            judged = await engine.judge(asked.texts)
        return JSONResponse(judged.model_dump())

    async def embed(request: Request) -> Response:
        asked = TextsToEmbed.model_validate_json(await request.body())
        with engine.judging.slot(_project(request)):
            embedded = await engine.embed(asked.texts)
        return JSONResponse(embedded.model_dump())

    async def answer(request: Request) -> Response:
        asked = AnswerRequest.model_validate_json(await request.body())
        with ExitStack() as held:
            held.enter_context(engine.writing.slot(_project(request)))
            begun = await engine.begin(asked)
            held.callback(engine.end, begun)
            return _AnswerResponse(_lines(engine, begun), held.pop_all())

    app = Starlette(
        routes=[
            Route(HEALTH_PATH, _health, methods=["GET"]),
            Route(MODERATIONS_PATH, judge, methods=["POST"]),
            Route(EMBEDDINGS_PATH, embed, methods=["POST"]),
            Route(ANSWERS_PATH, answer, methods=["POST"]),
        ],
        exception_handlers={TunewardError: _refuse},
        lifespan=lifespan,
    )
    assert settings.inference_token is not None  # noqa: S101 - the command asks for it
    return _TokenGate(app, settings.inference_token)


def run(settings: Settings) -> None:
    """Serve until TERM or Ctrl-C."""
    assert settings.inference_url is not None  # noqa: S101 - the command asks for it
    address = urlsplit(settings.inference_url)
    configure_logging(settings, "inference")
    os.environ.update(LIBRARY_VARIABLES)
    uvicorn.run(
        create_app(settings),
        host=settings.inference_host,
        port=address.port or (443 if address.scheme == "https" else 80),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _project(request: Request) -> str:
    return request.headers.get(PROJECT_HEADER, "")


class _TokenGate:
    """Lets nobody in without the secret, but for health checks."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != HEALTH_PATH:
            shown = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(shown, self._expected):
                await Response(status_code=HTTPStatus.UNAUTHORIZED)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class _AnswerResponse(StreamingResponse):
    """Lines of an answer; gives up slot and model when it is sent, or the gateway is gone."""

    def __init__(self, lines: AsyncIterator[str], held: ExitStack) -> None:
        super().__init__(lines, media_type="application/x-ndjson")
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held:
            await super().__call__(scope, receive, send)


async def _lines(engine: Engine, answer: "Answer") -> AsyncIterator[str]:
    """Write the answer line by line, one turn of the thread for each token."""
    line: AnswerLine = answer.started
    yield _written(line)
    try:
        while not isinstance(line, AnswerEnded):
            for line in await engine.go_on(answer):
                yield _written(line)
    except Exception:  # noqa: BLE001  (the status is sent: only a line can still tell)
        _log.exception("answer_failed")
        yield _written(AnswerFailed())


def _written(line: AnswerLine) -> str:
    # ASCII: a reader of lines may take other characters for the end of one, such as U+2028.
    return f"{line.model_dump_json(ensure_ascii=True)}\n"


async def _health(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, TunewardError)  # noqa: S101 - what the handler is installed for
    _log.info("refused", code=error.code)
    message = f"{error.message} {error.hint}" if error.hint else error.message
    refusal = Refusal(code=error.code, message=message)
    return JSONResponse(refusal.model_dump(), status_code=int(error.status))
