"""The gateway, put together. `uvicorn --factory api.main:app_factory` starts it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import APIRouter, FastAPI
from fastapi_offline import FastAPIOffline
from starlette.concurrency import run_in_threadpool

from api.admin.router import router as admin_router
from api.chat.router import router as chat_router
from api.checkpoints.router import router as checkpoints_router
from api.defenses.router import router as defenses_router
from api.errors import install_error_handlers
from api.event_stream import StreamSlots
from api.file_work import FileWork
from api.files.router import router as files_router
from api.fine_tuning.router import router as fine_tuning_router
from api.fine_tuning.token_checks import TokenChecks
from api.follow_ups.router import router as follow_ups_router
from api.graders.router import router as graders_router
from api.health import router as health_router
from api.inference import InferenceClient
from api.metrics import router as metrics_router
from api.middleware import BodyLimitMiddleware, RequestContextMiddleware
from api.models.router import router as models_router
from api.moderations.router import router as moderations_router
from api.openapi import DESCRIPTION, TAGS, install_openapi
from api.rate_limits import RateLimitHeadersMiddleware
from api.state import GatewayState
from api.uploads.router import router as uploads_router
from api.webhooks.router import router as webhooks_router
from core.database import Database
from core.log import configure_logging
from core.model_registry import ModelRegistry
from core.settings import Settings
from core.storage.local import LocalStorage

FEATURES = (
    files_router,
    uploads_router,
    fine_tuning_router,
    follow_ups_router,
    checkpoints_router,
    graders_router,
    models_router,
    chat_router,
    moderations_router,
    defenses_router,
    webhooks_router,
    admin_router,
)


def create_app(settings: Settings) -> FastAPI:
    """Build the application; it opens its first connection with its first request.

    Args:
        settings: `database_url` must name a migrated database.
    """
    storage = LocalStorage(settings.storage_path)
    state = GatewayState(
        settings=settings,
        database=Database.from_settings(settings),
        storage=storage,
        registry=ModelRegistry.load(settings),
        token_checks=TokenChecks(storage, settings.max_row_bytes),
        streams=StreamSlots(settings.max_event_streams, settings.project_event_streams),
        inference=InferenceClient(settings),
        file_work=FileWork(),
    )
    app = FastAPIOffline(  # whose browsable page loads nothing from elsewhere
        title="Tuneward",
        version=version("tuneward"),
        description=DESCRIPTION,
        openapi_tags=TAGS,
        lifespan=_lifespan,
        redirect_slashes=False,
        redoc_url=None,
    )
    app.state.gateway = state
    version_one = APIRouter(prefix="/v1")
    for router in FEATURES:
        version_one.include_router(router)
    app.include_router(version_one)
    app.include_router(health_router)
    app.include_router(metrics_router)
    install_error_handlers(app)
    install_openapi(app)
    app.add_middleware(
        BodyLimitMiddleware,
        max_request_bytes=settings.max_request_bytes,
        max_upload_bytes=settings.max_upload_bytes,
        max_part_bytes=settings.max_part_bytes,
    )
    app.add_middleware(RequestContextMiddleware)  # around what may crash
    app.add_middleware(RateLimitHeadersMiddleware)  # outermost: a crash is answered with them too
    return app


def app_factory() -> FastAPI:
    """Build the application from the environment, for uvicorn."""
    settings = Settings()
    configure_logging(settings, "gateway")
    return create_app(settings)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await run_in_threadpool(app.state.gateway.database.dispose)
