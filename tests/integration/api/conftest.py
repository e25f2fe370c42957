"""A gateway on the module's database, and its callers."""

from collections.abc import Iterator
from contextlib import ExitStack
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
    """A gateway with small limits, an empty storage and an empty queue."""
    settings = Settings(
        home=home,
        database_url=database_url,
        max_upload_bytes=1_000_000,
        max_request_bytes=20_000,
        max_part_bytes=5_000,
        max_upload_in_parts_bytes=100_000,
        max_row_bytes=2_000,
        max_sequence_tokens=128,
    )
    with database.session() as session:
        session.execute(
            text(
                "UPDATE jobs SET status = 'cancelled', finished_at = clock_timestamp()"
                " WHERE status = 'queued'"
            )
        )
    with ExitStack() as clients:
        yield Gateway(create_app(settings), settings, database, worker_storage(settings), clients)


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
