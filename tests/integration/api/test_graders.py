"""Graders: checked and tried over HTTP, as the stock client calls them."""

from contextlib import ExitStack
from typing import Any

import pytest
from openai.types.fine_tuning.alpha import GraderRunResponse, GraderValidateResponse
from starlette.testclient import TestClient

from api.main import create_app
from core.database import Database
from core.settings import Settings
from tests.inference_server import running_inference
from tests.integration.api.builders import Gateway, error_of, worker_storage

RUN = "/v1/fine_tuning/alpha/graders/run"
VALIDATE = "/v1/fine_tuning/alpha/graders/validate"
CHECK: dict[str, Any] = {
    "type": "string_check",
    "name": "same",
    "operation": "eq",
    "input": "{{sample.output_text}}",
    "reference": "{{ item.answer }}",
}
LIKENESS: dict[str, Any] = {
    "type": "text_similarity",
    "name": "alike",
    "evaluation_metric": "rouge_1",
    "input": "{{sample.output_text}}",
    "reference": "{{item.answer}}",
}
COSINE = LIKENESS | {"evaluation_metric": "cosine"}


def run(client: TestClient, grader: dict[str, Any], sample: str, **item: object) -> dict[str, Any]:
    response = client.post(RUN, json={"grader": grader, "model_sample": sample, "item": item})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


@pytest.mark.parametrize(
    ("operation", "sample", "reward"),
    [
        ("eq", "Paris", 1.0),
        ("eq", "paris", 0.0),
        ("ne", "paris", 1.0),
        ("ne", "Paris", 0.0),
        ("like", "It is Paris.", 1.0),
        ("like", "It is paris.", 0.0),
        ("ilike", "It is PARIS.", 1.0),
        ("ilike", "It is Rome.", 0.0),
    ],
)
def test_texts_are_checked(acme: TestClient, operation: str, sample: str, reward: float) -> None:
    body = run(acme, CHECK | {"operation": operation}, sample, answer="Paris")

    assert body["reward"] == reward
    assert (body["metadata"]["name"], body["metadata"]["type"]) == ("same", "string_check")
    assert not any(body["metadata"]["errors"].values())


@pytest.mark.parametrize(
    ("metric", "reward"),
    [
        ("rouge_1", 2 * 3 / (4 + 3)),
        ("rouge_2", 2 * 2 / (3 + 2)),
        ("rouge_3", 2 * 1 / (2 + 1)),
        ("rouge_4", 0.0),
        ("rouge_l", 2 * 3 / (4 + 3)),
        ("fuzzy_match", 2 * 10 / (16 + 12)),
        ("gleu", 6 / 10),
    ],
)
def test_likeness_is_measured(acme: TestClient, metric: str, reward: float) -> None:
    body = run(
        acme, LIKENESS | {"evaluation_metric": metric}, "the cat sat down", answer="The cat sat."
    )

    assert body["reward"] == pytest.approx(reward)


def test_meaning_is_compared_by_the_inference_process(
    settings: Settings, database_url: str, database: Database
) -> None:
    with (
        running_inference(settings.model_copy(update={"database_url": database_url})) as served,
        ExitStack() as clients,
    ):
        app = create_app(served)
        gateway = Gateway(app, served, database, worker_storage(served), clients)
        client = gateway.caller("acme")

        same, near, far = (
            run(client, COSINE, sample, answer="The cat sleeps on the sofa.")["reward"]
            for sample in (
                "The cat sleeps on the sofa.",
                "A kitten is napping on the couch.",
                "Interest rates rose by half a point.",
            )
        )

        assert same == pytest.approx(1.0, abs=1e-5)
        assert 0.5 < near < 0.9
        assert 0.0 <= far < 0.2
        assert client.post("/v1/moderations", json={"input": "a"}).status_code == 200


def test_meaning_is_not_compared_without_an_inference_process(acme: TestClient) -> None:
    body = {"grader": COSINE, "model_sample": "x", "item": {"answer": "x"}}

    response = acme.post(RUN, json=body)

    assert response.status_code == 503
    assert error_of(response)["code"] == "inference_unavailable"
    assert response.headers["retry-after"] == "2"


def test_a_place_that_is_empty_is_told_before_meanings_are_compared(acme: TestClient) -> None:
    body = run(acme, COSINE, "x")

    assert body["reward"] == 0.0
    assert body["metadata"]["errors"]["invalid_variable_error"] is True


def test_places_reach_into_the_item_and_the_samples_json(acme: TestClient) -> None:
    grader = CHECK | {"input": "{{sample.output_json.city.name}}", "reference": "{{item.a.b}}"}

    body = run(acme, grader, '{"city": {"name": 7}}', a={"b": "7"})

    assert body["reward"] == 1.0


def test_what_is_filled_in_is_not_read_again(acme: TestClient) -> None:
    body = run(acme, CHECK, "{{item.secret}}", answer="{{item.secret}}", secret="x")

    assert body["reward"] == 1.0


@pytest.mark.parametrize(
    ("grader", "error"),
    [
        (CHECK | {"reference": "{{item.missing}}"}, "invalid_variable_error"),
        (CHECK | {"input": "{{sample.output_json.a}}"}, "sample_parse_error"),
    ],
)
def test_what_is_not_there_gives_no_reward_and_is_named(
    acme: TestClient, grader: dict[str, Any], error: str
) -> None:
    body = run(acme, grader | {"operation": "ne"}, "no json", answer="Paris")

    assert body["reward"] == 0.0
    assert [name for name, value in body["metadata"]["errors"].items() if value] == [error]


def test_a_good_grader_is_given_back(acme: TestClient) -> None:
    for grader in (CHECK, LIKENESS, COSINE):
        assert acme.post(VALIDATE, json={"grader": grader}).json() == {"grader": grader}


@pytest.mark.parametrize("path", [RUN, VALIDATE])
@pytest.mark.parametrize(
    ("grader", "param", "code"),
    [
        ({"type": "score_model"}, "grader.type", "unsupported_grader"),
        ({"type": "python", "source": "1"}, "grader.type", "unsupported_grader"),
        ({"type": "multi"}, "grader.type", "unsupported_grader"),
        ({"type": 3}, "grader.type", "unsupported_grader"),
        ({}, "grader.type", "unsupported_grader"),
        (LIKENESS | {"evaluation_metric": "canary"}, "grader.evaluation_metric", "invalid_value"),
        (CHECK | {"operation": "canary"}, "grader.operation", "invalid_value"),
        (CHECK | {"input": "{{canary.x}}"}, "grader.input", "invalid_value"),
        (CHECK | {"reference": "{{item}}"}, "grader.reference", "invalid_value"),
        (CHECK | {"inptu": "x"}, "grader.inptu", "invalid_value"),
    ],
)
def test_a_wrong_grader_is_refused_at_its_place(
    acme: TestClient, path: str, grader: dict[str, Any], param: str, code: str
) -> None:
    body = {"grader": grader} | ({"model_sample": "x"} if path == RUN else {})

    response = acme.post(path, json=body)

    assert response.status_code == 400, response.text
    error = error_of(response)
    assert (error["param"], error["code"]) == (param, code)
    assert "canary" not in error["message"]


def test_a_text_that_grows_too_long_is_refused(acme: TestClient) -> None:
    grader = CHECK | {"input": "{{item.a}}" * 900}

    response = acme.post(
        RUN, json={"grader": grader, "model_sample": "", "item": {"a": "x" * 5_000, "answer": ""}}
    )

    assert response.status_code == 400
    assert error_of(response)["param"] == "grader"


def test_the_stock_clients_types_read_the_answers(acme: TestClient) -> None:
    ran = GraderRunResponse.model_validate(run(acme, CHECK, "Paris", answer="Paris"))
    checked = GraderValidateResponse.model_validate(
        acme.post(VALIDATE, json={"grader": LIKENESS}).json()
    )

    assert ran.reward == 1.0
    assert ran.metadata.errors.api_model_grader_parse_error is False
    assert checked.grader is not None
    assert checked.grader.type == "text_similarity"
