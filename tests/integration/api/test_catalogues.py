from starlette.testclient import TestClient

from core.job_state import Verdict
from tests.integration.api.builders import MODEL, Gateway, claim, create_job, error_of, finish


def test_base_models_are_listed_and_described(acme: TestClient) -> None:
    page = acme.get("/v1/models").json()

    assert (page["object"], page["has_more"]) == ("list", False)
    model = page["data"][0]
    assert (model["id"], model["object"], model["owned_by"]) == (MODEL, "model", "HuggingFaceTB")
    assert (model["licence"], model["created"]) == ("Apache-2.0", 1730332800)
    assert acme.get(f"/v1/models/{MODEL}").json() == model


def test_a_tuned_model_is_its_owners(gateway: Gateway, acme: TestClient, rival: TestClient) -> None:
    job_id = create_job(acme)["id"]
    finish(gateway, claim(gateway), Verdict.RELEASED)
    name = acme.get(f"/v1/fine_tuning/jobs/{job_id}").json()["fine_tuned_model"]

    mine = acme.get(f"/v1/models/{name}").json()
    foreign = rival.get(f"/v1/models/{name}")

    assert (mine["id"], mine["base_model"], mine["fine_tuning_job"]) == (name, MODEL, job_id)
    assert [model["id"] for model in acme.get("/v1/models").json()["data"]] == [MODEL, name]
    assert [model["id"] for model in rival.get("/v1/models").json()["data"]] == [MODEL]
    assert foreign.status_code == 404
    assert error_of(foreign)["param"] == "model"


def test_an_unknown_model_is_not_found_and_not_repeated(acme: TestClient) -> None:
    for name in ("canary-model", "%00", "..%2f..%2fetc", "a b"):
        response = acme.get(f"/v1/models/{name}")
        assert response.status_code == 404
        assert error_of(response)["code"] in {"model_not_found", "not_found", "unknown_url"}
        assert "canary" not in response.text


def test_defenses_are_listed_with_the_schema_of_their_options(acme: TestClient) -> None:
    entries = {entry["id"]: entry for entry in acme.get("/v1/defenses").json()["data"]}

    assert set(entries) >= {"panacea", "none"}
    panacea = entries["panacea"]
    assert (panacea["object"], panacea["stage"]) == ("defense", "fine_tuning")
    assert panacea["paper"] == "arXiv:2501.18100"
    assert "perturbation_radius" in panacea["schema"]["properties"]


def test_the_api_reference_is_complete(acme: TestClient) -> None:
    document = acme.get("/openapi.json").json()

    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert operation["operationId"], path
            assert "422" not in operation["responses"], path
            if path.startswith("/v1/"):
                assert operation["security"] == [{"ApiKey": []}], path
                assert "401" in operation["responses"], path
    create = document["paths"]["/v1/fine_tuning/jobs"]["post"]
    reference = create["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert reference.rsplit("/", 1)[-1] in document["components"]["schemas"]
    assert {"400", "404", "413"} <= set(create["responses"])
