"""What requests are told: in plain words, at the place of the mistake, the same on each reading."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from defense.catalog import DEFENSES, FOLLOWING
from tests.integration.api.builders import create_job, error_of, job_body, upload_id

JOBS = "/v1/fine_tuning/jobs"


def defended(**options: object) -> dict[str, Any]:
    defense = {"type": "panacea", **options}
    return {"method": {"type": "supervised", "supervised": {"defense": defense}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"integrations": [{"type": "wandb"}]}, "integrations: must be empty."),
        (
            {"suffix": "a/b"},
            "suffix: may hold letters, digits, dots, underscores and hyphens only.",
        ),
        ({"suffix": ""}, "suffix: must not be empty."),
        ({"method": {"type": "reinforcement"}}, "method.type: must be 'supervised' or 'dpo'."),
        ({"seed": "x"}, "seed: must be a whole number."),
        ({"model": None}, "model: must be a string."),
    ],
)
def test_a_wrong_field_is_told_in_plain_words(
    acme: TestClient, changes: dict[str, Any], message: str
) -> None:
    response = acme.post(JOBS, json=job_body(upload_id(acme)) | changes)

    assert response.status_code == 400
    assert error_of(response)["message"] == message


@pytest.mark.parametrize(
    ("options", "place", "end"),
    [
        ({"type": "panaca"}, "type", "; did you mean panacea?"),
        ({"type": "lissa"}, "type", "; did you mean lisa?"),
        ({"type": "xyz"}, "type", "."),
        ({"type": None}, "type", "."),
        ({"type": 7}, "type", "."),
        (
            {"post_fine_tuning": {"type": "refusal_restauration"}},
            "post_fine_tuning.type",
            "; did you mean refusal_restoration?",
        ),
        ({"post_fine_tuning": {"type": "panacea"}}, "post_fine_tuning.type", "."),
        ({"post_fine_tuning": {}}, "post_fine_tuning.type", "."),
    ],
)
def test_a_misspelled_defense_comes_with_the_one_that_was_meant(
    acme: TestClient, options: dict[str, Any], place: str, end: str
) -> None:
    error = error_of(acme.post(JOBS, json=job_body(upload_id(acme), **defended(**options))))

    names = FOLLOWING if "." in place else DEFENSES
    param = f"method.supervised.defense.{place}"
    assert (error["code"], error["param"]) == ("invalid_defense_config", param)
    assert error["message"].startswith(f"{param}: must be one of {', '.join(names)}{end}")


@pytest.mark.parametrize(
    ("options", "option", "words"),
    [
        ({"perturbation_strength": 11.0}, "perturbation_strength", "must be 'auto' or a number"),
        ({"perturbation_strength": "x"}, "perturbation_strength", "must be a number or 'auto'."),
        ({"guard_interval": 0}, "guard_interval", "must be at least 1."),
        (
            {"final_perturbation": "last_batch", "regularization_strength": 0},
            "final_perturbation",
            "'last_batch' reuses a training probe",
        ),
    ],
)
def test_a_wrong_option_of_a_defense_is_named_once(
    acme: TestClient, options: dict[str, Any], option: str, words: str
) -> None:
    response = acme.post(JOBS, json=job_body(upload_id(acme), **defended(**options)))

    error = error_of(response)
    assert (error["code"], error["param"]) == (
        "invalid_defense_config",
        f"method.supervised.defense.{option}",
    )
    assert error["message"].startswith(f"method.supervised.defense.{option}: {words}")
    assert error["message"].count(option) == 1


def test_options_stand_in_the_same_order_however_a_job_is_read(acme: TestClient) -> None:
    created = create_job(acme, **defended(harmful_batch_size=3))

    retrieved = acme.get(f"{JOBS}/{created['id']}").json()

    for job in (created, retrieved):
        assert next(iter(job["defense"]["params"])) == "perturbation_strength"
        assert next(iter(job["method"]["supervised"]["defense"])) == "type"
    assert list(created["defense"]["params"]) == list(retrieved["defense"]["params"])


def test_an_address_without_a_route_says_what_is_served(acme: TestClient) -> None:
    response = acme.post("/v1/embeddings", json={})

    error = error_of(response)
    assert (response.status_code, error["code"]) == (404, "unknown_url")
    assert all(path in error["message"] for path in ("/v1/fine_tuning", "/v1/files", "/v1/models"))
    assert "/openapi.json" in error["message"]
    assert "embeddings" not in error["message"]


def test_a_method_that_an_address_does_not_take_is_answered_with_those_it_takes(
    acme: TestClient,
) -> None:
    error = error_of(acme.put("/v1/models"))

    assert error["message"] == "This address takes GET."
