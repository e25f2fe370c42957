import re

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


def test_a_deleted_model_takes_its_adapter_along_and_leaves_its_job(
    gateway: Gateway, acme: TestClient
) -> None:
    job_id = create_job(acme)["id"]
    finish(gateway, claim(gateway), Verdict.RELEASED)
    job = acme.get(f"/v1/fine_tuning/jobs/{job_id}").json()
    metrics, archive, report = job["result_files"]
    name = job["fine_tuned_model"]

    response = acme.delete(f"/v1/models/{name.replace(':', '%3A')}")

    assert response.json() == {"id": name, "object": "model", "deleted": True}
    assert [model["id"] for model in acme.get("/v1/models").json()["data"]] == [MODEL]
    for path in (
        f"/v1/models/{name}",
        f"/v1/files/{archive}",
        f"/v1/fine_tuning/jobs/{job_id}/adapter",
    ):
        assert acme.get(path).status_code == 404, path
    assert not [
        path
        for path in gateway.stored_files()
        if (path.parts[-3], path.name) == (job_id, "adapter.tar") and "released" in path.parts
    ]
    assert acme.get(f"/v1/fine_tuning/jobs/{job_id}").json() == job
    for file_id in (metrics, report):
        assert acme.get(f"/v1/files/{file_id}/content").status_code == 200
    assert acme.delete(f"/v1/models/{name}").status_code == 404


def test_a_model_that_a_waiting_job_continues_is_kept(gateway: Gateway, acme: TestClient) -> None:
    job_id = create_job(acme)["id"]
    finish(gateway, claim(gateway), Verdict.RELEASED)
    parent = acme.get(f"/v1/fine_tuning/jobs/{job_id}").json()
    name, archive = parent["fine_tuned_model"], parent["result_files"][1]
    waiting = create_job(acme, model=name)

    by_model = acme.delete(f"/v1/models/{name}")
    by_file = acme.delete(f"/v1/files/{archive}")
    kept = acme.get(f"/v1/models/{name}").status_code
    acme.post(f"/v1/fine_tuning/jobs/{waiting['id']}/cancel")

    for response in (by_model, by_file):
        assert (response.status_code, error_of(response)["code"]) == (400, "file_in_use")
    assert kept == 200
    assert acme.delete(f"/v1/models/{name}").status_code == 200


def test_models_of_others_cannot_be_deleted(
    gateway: Gateway, acme: TestClient, rival: TestClient
) -> None:
    job_id = create_job(acme)["id"]
    finish(gateway, claim(gateway), Verdict.RELEASED)
    name = acme.get(f"/v1/fine_tuning/jobs/{job_id}").json()["fine_tuned_model"]

    foreign = rival.delete(f"/v1/models/{name}")
    unknown = rival.delete("/v1/models/ft:unknown")
    base = rival.delete(f"/v1/models/{MODEL}")

    assert foreign.status_code == unknown.status_code == 404
    assert error_of(foreign) == error_of(unknown)
    assert (base.status_code, error_of(base)["code"]) == (403, "base_model")
    assert acme.get(f"/v1/models/{name}").status_code == 200
    assert acme.get(f"/v1/models/{MODEL}").status_code == 200


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
    booster = entries["booster"]
    assert booster["stage"] == "alignment"
    assert booster["schema"]["properties"]["perturbation_radius"]["default"] == 0.1


def test_the_browsable_reference_loads_nothing_from_elsewhere(gateway: Gateway) -> None:
    visitor = TestClient(gateway.app)
    page = visitor.get("/docs").text

    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)

    assert len(loaded) == 3
    assert all(address.startswith("/") for address in loaded)
    for address in loaded:
        assert visitor.get(address).status_code == 200, address
    assert "SwaggerUIBundle" in visitor.get("/static-offline-docs/swagger-ui-bundle.js").text


def test_what_the_browsable_reference_does_not_have_is_refused_as_everywhere(
    gateway: Gateway,
) -> None:
    visitor = TestClient(gateway.app)

    missing = visitor.get("/static-offline-docs/%2e%2e/__init__.py")
    posted = visitor.post("/static-offline-docs/swagger-ui.css")

    assert (missing.status_code, posted.status_code) == (404, 405)
    for refused in (missing, posted):
        assert set(error_of(refused)) == {"message", "type", "param", "code"}
        assert refused.headers["x-request-id"]


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
