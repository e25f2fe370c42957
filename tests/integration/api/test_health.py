from dataclasses import replace
from pathlib import Path

from starlette.testclient import TestClient

from api.main import create_app
from core.settings import Settings
from tests.integration.api.builders import Gateway


def test_a_living_gateway_says_so_without_a_key(anonymous: TestClient) -> None:
    response = anonymous.get("/healthz")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_a_gateway_with_all_its_parts_is_ready(
    gateway: Gateway, anonymous: TestClient, redis_url: str
) -> None:
    state = gateway.app.state.gateway
    with_redis = gateway.settings.model_copy(update={"redis_url": redis_url})
    gateway.app.state.gateway = replace(state, settings=with_redis)

    response = anonymous.get("/readyz")

    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "database": "ok",
        "schema_version": "ok",
        "storage": "ok",
        "redis": "ok",
    }


def test_redis_is_reported_but_not_needed(gateway: Gateway, anonymous: TestClient) -> None:
    state = gateway.app.state.gateway
    without = gateway.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    gateway.app.state.gateway = replace(state, settings=without)

    response = anonymous.get("/readyz")

    assert (response.status_code, response.json()["redis"]) == (200, "failed")


def test_a_database_without_its_migrations_is_not_ready(
    empty_database_url: str, tmp_path: Path
) -> None:
    app = create_app(Settings(home=tmp_path, database_url=empty_database_url))

    response = TestClient(app).get("/readyz")

    app.state.gateway.database.dispose()
    body = response.json()
    assert response.status_code == 503
    assert (body["database"], body["schema_version"]) == ("ok", "failed")


def test_without_its_database_the_gateway_lives_but_is_not_ready(tmp_path: Path) -> None:
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    client = TestClient(create_app(Settings(home=tmp_path, database_url=url)))

    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 503


def test_requests_without_a_database_are_worth_repeating(tmp_path: Path, acme: TestClient) -> None:
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    client = TestClient(create_app(Settings(home=tmp_path, database_url=url)))

    response = client.get("/v1/files", headers={"Authorization": acme.headers["authorization"]})

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "service_unavailable"
