"""What a job shows of its method, asked for again as it stands."""

from typing import Any

import pytest
from openai.types.fine_tuning.fine_tuning_job import Method
from starlette.testclient import TestClient

from tests.integration.api.builders import GOOD_ROWS, error_of, job_body, upload_id
from tests.integration.api.test_fine_tuning_jobs import JOBS, preferences

ROWS = {"supervised": GOOD_ROWS, "dpo": preferences()}
ASKED: list[dict[str, Any]] = [
    {},
    {"hyperparameters": {"learning_rate": 3e-4, "max_steps": 7}, "checkpoints": {"keep": 1}},
    {"hyperparameters": {"learning_rate_multiplier": 0.3}, "defense": {"type": "none"}},
    {
        "defense": {"type": "lisa", "post_fine_tuning": {"type": "random_perturbation"}},
        "screening": {"policy": "quarantine"},
    },
]


@pytest.mark.parametrize("method", ["supervised", "dpo"])
@pytest.mark.parametrize("asked", ASKED)
def test_a_shown_method_makes_the_same_job_again(
    acme: TestClient, method: str, asked: dict[str, Any]
) -> None:
    body = job_body(upload_id(acme, ROWS[method]), method={"type": method, method: asked})
    job = acme.post(JOBS, json=body).json()
    by_the_stock_client = Method.model_validate(job["method"]).model_dump()
    assert by_the_stock_client["reinforcement"] is None

    for shown in (job["method"], by_the_stock_client):
        again = acme.post(JOBS, json=body | {"method": shown})

        assert again.status_code == 200, again.text
        assert again.json()["method"] == job["method"]


def test_the_shown_old_place_of_hyperparameters_can_be_sent_beside_the_method(
    acme: TestClient,
) -> None:
    body = job_body(upload_id(acme))
    job = acme.post(JOBS, json=body).json()
    shown = {name: job[name] for name in ("method", "hyperparameters")}

    again = acme.post(JOBS, json=body | shown).json()

    assert {name: again[name] for name in shown} == shown


def test_a_length_of_rows_that_the_server_does_not_have_is_refused(acme: TestClient) -> None:
    asked = {"hyperparameters": {"max_sequence_tokens": 7}}
    body = job_body(upload_id(acme), method={"type": "supervised", "supervised": asked})

    error = error_of(acme.post(JOBS, json=body))

    place = "method.supervised.hyperparameters.max_sequence_tokens"
    assert (error["code"], error["param"]) == ("invalid_hyperparameters", place)


def test_options_of_another_method_are_refused(acme: TestClient) -> None:
    body = job_body(upload_id(acme), method={"type": "supervised", "reinforcement": {"grader": {}}})

    error = error_of(acme.post(JOBS, json=body))

    assert (error["code"], error["param"]) == ("invalid_value", "method.reinforcement")
