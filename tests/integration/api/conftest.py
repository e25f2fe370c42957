"""A gateway on the module's database, and its callers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from starlette.testclient import TestClient

from api.main import create_app
from core.database import Database
from core.settings import Settings
from tests.integration.api.builders import Gateway, worker_storage


@pytest.fixture
def gateway(database_url: str, database: Database, home: Path) -> Iterator[Gateway]:
    """A gateway with small limits on an empty database and an empty storage."""
    with database.session() as session:
        session.execute(
            text(
                "TRUNCATE projects, api_keys, files, jobs, job_events, artifacts,"
                " gate_decisions, outbox RESTART IDENTITY"
            )
        )
    settings = Settings(
        home=home,
        database_url=database_url,
        max_upload_bytes=1_000_000,
        max_request_bytes=20_000,
        max_row_bytes=2_000,
    )
    app = create_app(settings)
    yield Gateway(app, settings, database, worker_storage(settings))
    app.state.gateway.database.dispose()


@pytest.fixture
def acme(gateway: Gateway) -> TestClient:
    """A client with a key of the project under test."""
    return gateway.caller("acme")


@pytest.fixture
def rival(gateway: Gateway) -> TestClient:
    """A client with a key of another project."""
    return gateway.caller("rival")


@pytest.fixture
def anonymous(gateway: Gateway) -> TestClient:
    """A client without a key."""
    return gateway.anonymous()
