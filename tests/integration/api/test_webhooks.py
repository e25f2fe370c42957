from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import OpenAI
from sqlalchemy import text
from starlette.testclient import TestClient

from api.webhooks import service
from core.models import WebhookEndpoint
from core.repositories.webhook_endpoints import WebhookEndpointRepository
from tests.integration.api.builders import Gateway, create_job, error_of, wait_for_a_lock
from tests.integration.api.server import running_gateway

PATH = "/v1/webhook_endpoints"
BODY = {"name": "bot", "url": "https://example.com/", "event_types": ["fine_tuning.job.cancelled"]}


def create(client: TestClient, **changes: object) -> dict[str, object]:
    response = client.post(PATH, json=BODY | changes)
    assert response.status_code == 200, response.text
    body: dict[str, object] = response.json()
    return body


def test_the_secret_is_shown_at_creation_and_never_again(acme: TestClient) -> None:
    created = create(acme)

    secret = str(created.pop("signing_secret"))
    assert secret.startswith("whsec_")
    assert created["signing_secret_hint"] == f"…{secret[-4:]}"
    assert acme.get(f"{PATH}/{created['id']}").json() == created
    listed = acme.get(PATH)
    assert listed.json()["data"] == [created]
    assert secret not in listed.text


def test_an_endpoint_can_be_changed_and_deleted(acme: TestClient) -> None:
    address = f"{PATH}/{create(acme)['id']}"

    changed = acme.post(address, json={"enabled": False, "url": "https://example.org/"}).json()
    deleted = acme.delete(address).json()

    assert (changed["enabled"], changed["url"], changed["name"]) == (
        False,
        "https://example.org/",
        "bot",
    )
    assert deleted["deleted"] is True
    assert acme.get(address).status_code == 404


def test_pages_follow_each_other_and_a_foreign_cursor_is_refused(
    acme: TestClient, rival: TestClient
) -> None:
    first, second = create(acme)["id"], create(acme)["id"]
    foreign = str(create(rival)["id"])

    page = acme.get(PATH, params={"limit": 1}).json()
    rest = acme.get(PATH, params={"limit": 1, "after": page["last_id"]}).json()

    assert [page["data"][0]["id"], rest["data"][0]["id"]] == [second, first]
    assert (page["has_more"], rest["has_more"]) == (True, False)
    refused = acme.get(PATH, params={"after": foreign})
    assert error_of(refused)["code"] == "invalid_cursor"


@pytest.mark.parametrize(
    "url", ["http://example.com/", "https://127.0.0.1/", "https://2130706433/", "https://[::1]/"]
)
def test_a_forbidden_address_is_refused_at_creation_and_at_change(
    acme: TestClient, url: str
) -> None:
    address = f"{PATH}/{create(acme)['id']}"

    for response in (
        acme.post(PATH, json=BODY | {"url": url}),
        acme.post(address, json={"url": url}),
    ):
        assert response.status_code == 400
        assert error_of(response)["code"] == "forbidden_webhook_url"
        assert error_of(response)["param"] == "url"


@pytest.mark.parametrize(
    "changes", [{"event_types": ["batch.completed"]}, {"event_types": []}, {"enabled": 1}]
)
def test_a_malformed_endpoint_is_refused(acme: TestClient, changes: dict[str, object]) -> None:
    assert error_of(acme.post(PATH, json=BODY | changes))["code"] == "invalid_value"


def test_the_number_of_endpoints_is_limited(acme: TestClient) -> None:
    for _ in range(20):
        create(acme)

    response = acme.post(PATH, json=BODY)

    assert response.status_code == 400
    assert error_of(response)["code"] == "too_many_webhook_endpoints"


def test_two_requests_at_once_do_not_both_take_the_last_place(
    gateway: Gateway, acme: TestClient
) -> None:
    last = [create(acme)["id"] for _ in range(19)][-1]
    with ThreadPoolExecutor(1) as pool:
        with gateway.database.session() as other:
            project_id = other.get_one(WebhookEndpoint, last).project_id
            WebhookEndpointRepository(other).add(
                project_id, name="x", url="https://example.com/", secret="whsec_x", event_types=[]
            )
            asked = pool.submit(acme.post, PATH, json=BODY)
            wait_for_a_lock(gateway, asked.done)

        assert error_of(asked.result())["code"] == "too_many_webhook_endpoints"


@pytest.mark.parametrize("action", ["test", "replay"])
def test_what_is_sent_to_an_endpoint_while_it_is_deleted_is_not_found(
    gateway: Gateway, acme: TestClient, action: str
) -> None:
    endpoint_id = create(acme)["id"]
    address, test = f"{PATH}/{endpoint_id}", {"event_type": "fine_tuning.job.failed"}
    delivery = acme.post(f"{address}/test", json=test).json()
    path = "test" if action == "test" else f"deliveries/{delivery['id']}/replay"
    with ThreadPoolExecutor(1) as pool:
        with gateway.database.session() as deleting:
            deleting.execute(
                text("DELETE FROM webhook_endpoints WHERE id = :id"), {"id": endpoint_id}
            )
            asked = pool.submit(acme.post, f"{address}/{path}", json=test)
            wait_for_a_lock(gateway, asked.done)

        assert asked.result().status_code == 404


def test_no_body_asks_for_what_an_empty_object_asks_for(acme: TestClient) -> None:
    made = create(acme)
    address = f"{PATH}/{made['id']}"

    rotated = acme.post(f"{address}/rotate_secret")
    sent = [acme.post(f"{address}/test"), acme.post(f"{address}/test", json={})]

    assert rotated.status_code == 200
    assert rotated.json()["signing_secret"] != made["signing_secret"]
    assert [answer.json()["event_type"] for answer in sent] == ["fine_tuning.job.succeeded"] * 2
    refused = acme.post(PATH)
    assert (refused.status_code, error_of(refused)["code"]) == (400, "invalid_json")


def test_test_events_and_replays_are_limited_per_project(
    monkeypatch: pytest.MonkeyPatch, acme: TestClient, rival: TestClient
) -> None:
    monkeypatch.setattr(service, "SENDINGS_PER_MINUTE", 2)
    test = {"event_type": "fine_tuning.job.failed"}
    address = f"{PATH}/{create(acme)['id']}"
    first = acme.post(f"{address}/test", json=test).json()
    replay = f"{address}/deliveries/{first['id']}/replay"
    second = acme.post(replay)

    third = acme.post(replay)

    assert second.status_code == 200
    assert (third.status_code, error_of(third)["code"]) == (429, "rate_limit_exceeded")
    assert 1 <= int(third.headers["retry-after"]) <= 30
    assert acme.post(f"{address}/test", json=test).status_code == 429
    assert len(acme.get(f"{address}/deliveries").json()["data"]) == 2
    assert rival.post(f"{PATH}/{create(rival)['id']}/test", json=test).status_code == 200


def test_the_end_of_a_job_is_in_the_log_and_can_be_replayed(acme: TestClient) -> None:
    log = f"{PATH}/{create(acme)['id']}/deliveries"
    job = create_job(acme)
    acme.post(f"/v1/fine_tuning/jobs/{job['id']}/cancel")

    [delivery] = acme.get(log).json()["data"]
    replayed = acme.post(f"{log}/{delivery['id']}/replay").json()

    assert (delivery["job_id"], delivery["status"]) == (job["id"], "pending")
    assert delivery["event_type"] == "fine_tuning.job.cancelled"
    assert replayed["event_id"] == delivery["event_id"]
    assert [item["id"] for item in acme.get(log).json()["data"]] == [replayed["id"], delivery["id"]]
    page = acme.get(log, params={"after": replayed["id"]}).json()
    assert [item["id"] for item in page["data"]] == [delivery["id"]]


def test_another_projects_endpoint_looks_like_none(acme: TestClient, rival: TestClient) -> None:
    address = f"{PATH}/{create(acme)['id']}"
    test = {"event_type": "fine_tuning.job.failed"}
    delivery = acme.post(f"{address}/test", json=test).json()
    own = f"{PATH}/{create(rival)['id']}"

    answers = [
        rival.get(address),
        rival.post(address, json={"enabled": False}),
        rival.delete(address),
        rival.post(f"{address}/rotate_secret", json={}),
        rival.post(f"{address}/test", json=test),
        rival.get(f"{address}/deliveries"),
        rival.post(f"{address}/deliveries/{delivery['id']}/replay"),
        rival.post(f"{own}/deliveries/{delivery['id']}/replay"),
    ]

    assert [answer.status_code for answer in answers] == [404] * 8
    assert all(error_of(answer)["code"] == "not_found" for answer in answers)
    assert acme.get(address).json()["enabled"] is True


def test_the_openai_client_manages_endpoints(gateway: Gateway, acme: TestClient) -> None:
    assert gateway.settings.database_url is not None
    key = acme.headers["authorization"].removeprefix("Bearer ")
    with (
        running_gateway(gateway.settings.home, gateway.settings.database_url) as server,
        OpenAI(api_key=key, base_url=f"{server.url}/v1") as client,
    ):
        made = client.webhooks.create(
            name="bot", url="https://example.com/", event_types=["fine_tuning.job.failed"]
        )
        rotated = client.webhooks.rotate_secret(made.id)
        sent = client.webhooks.test(made.id, event_type="fine_tuning.job.failed")
        renamed = client.webhooks.update(made.id, name="other")
        listed = [item.id for item in client.webhooks.list()]
        gone = client.webhooks.delete(made.id)

    assert rotated.signing_secret != made.signing_secret
    assert (sent.event_type, sent.webhook_endpoint_id) == ("fine_tuning.job.failed", made.id)
    assert (renamed.name, listed, gone.deleted) == ("other", [made.id], True)
