"""Whether the gateway lives, and whether it can serve.

`/healthz` touches nothing, so a slow database never makes an orchestrator restart the gateway.
"""

from collections.abc import Callable
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Literal

import redis
import structlog
from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from api.state import GatewayState, gateway_state
from core.errors import TunewardError
from core.migration import current_matches_head
from core.storage.protocol import upload_key

_log = structlog.get_logger(__name__)
_REDIS_TIMEOUT_SECONDS = 2.0

router = APIRouter(tags=["Health"])


class CheckResult(StrEnum):
    """How one part answered."""

    OK = "ok"
    FAILED = "failed"
    NOT_CONFIGURED = "not_configured"


class Liveness(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """What each part answered. Redis is reported only: jobs are accepted without it."""

    status: CheckResult
    database: CheckResult
    schema_version: CheckResult = Field(description="Whether all migrations are applied.")
    storage: CheckResult
    redis: CheckResult


@router.get("/healthz", operation_id="checkLiveness", summary="Is the process alive?")
def check_liveness() -> Liveness:
    """Answer; nothing else is asked."""
    return Liveness()


@router.get(
    "/readyz",
    operation_id="checkReadiness",
    summary="Can requests be served?",
    response_model=Readiness,
    responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": Readiness, "description": "Not yet."}},
)
def check_readiness(state: Annotated[GatewayState, Depends(gateway_state)]) -> JSONResponse:
    """Ask database, schema version, storage and Redis; 503 unless the first three are well."""
    database = _check(state.database.ping)
    schema = CheckResult.FAILED
    if database is CheckResult.OK:
        schema = _check(lambda: _require(current_matches_head(state.database)))
    storage = _check(lambda: state.storage.exists(upload_key("readiness")))
    is_ready = {database, schema, storage} == {CheckResult.OK}
    readiness = Readiness(
        status=CheckResult.OK if is_ready else CheckResult.FAILED,
        database=database,
        schema_version=schema,
        storage=storage,
        redis=_check_redis(state.settings.redis_url),
    )
    return JSONResponse(
        readiness.model_dump(mode="json"),
        status_code=HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE,
    )


def _check(ask: Callable[[], object]) -> CheckResult:
    try:
        ask()
    except (TunewardError, SQLAlchemyError, OSError, redis.RedisError) as error:
        _log.warning("not_ready", error_type=type(error).__name__)
        return CheckResult.FAILED
    return CheckResult.OK


def _require(condition: bool) -> None:  # noqa: FBT001 - the condition is all it takes
    if not condition:
        raise TunewardError("Migrations are missing.")


def _check_redis(url: str | None) -> CheckResult:
    if url is None:
        return CheckResult.NOT_CONFIGURED

    def ping() -> None:
        with redis.Redis.from_url(
            url,
            socket_timeout=_REDIS_TIMEOUT_SECONDS,
            socket_connect_timeout=_REDIS_TIMEOUT_SECONDS,
        ) as client:
            client.ping()

    return _check(ping)
