import json
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.fine_tuning import token_checks
from api.main import create_app
from core.model_registry import ModelRegistry
from core.screening import ScreeningPolicy
from core.settings import Settings
from core.storage.protocol import tokenizer_key
from defense.catalog import DEFENSES
from tests.integration.api.builders import (
    BAD_ROWS,
    MODEL,
    Gateway,
    claim,
    create_job,
    error_of,
    job_body,
    row,
    upload,
    upload_id,
)
from tests.tiny_models import tiny_tokenizer
from tests.tokenizers import published

JOBS = "/v1/fine_tuning/jobs"
CONTRACT = {
    "id", "object", "created_at", "finished_at", "status", "error", "model", "fine_tuned_model",
    "organization_id", "training_file", "validation_file", "result_files", "hyperparameters",
    "method", "seed", "trained_tokens", "estimated_finish", "integrations", "metadata",
}  # fmt: skip


def supervised(**more: object) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": more}}


def dpo(**more: object) -> dict[str, Any]:
    return {"method": {"type": "dpo", "dpo": more}}


def preferences(count: int = 10) -> bytes:
    """Rows of preferences, as the contract writes them."""
    lines = (
        {
            "input": {
                "messages": [{"role": "user", "content": f"Say {number}"}],
                "tools": [],
                "parallel_tool_calls": True,
            },
            "preferred_output": [{"role": "assistant", "content": f"It is {number}."}],
            "non_preferred_output": [{"role": "assistant", "content": f"No {number}."}],
        }
        for number in range(count)
    )
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def test_a_whole_number_may_be_written_with_a_point_and_no_other(acme: TestClient) -> None:
    values = {"n_epochs": 2.0, "learning_rate_multiplier": 4.0}

    job = create_job(acme, seed=7.0, hyperparameters=values)
    body = job_body(job["training_file"], hyperparameters={"n_epochs": 2.5})
    broken = acme.post("/v1/fine_tuning/jobs", json=body)

    assert (job["seed"], job["hyperparameters"]["n_epochs"]) == (7, 2)
    assert job["hyperparameters"]["learning_rate_multiplier"] == 4.0
    assert error_of(broken)["param"] == "hyperparameters.n_epochs"


def test_a_created_job_waits_under_the_default_defense(gateway: Gateway, acme: TestClient) -> None:
    job = create_job(acme)

    assert set(job) >= CONTRACT
    assert job["object"] == "fine_tuning.job"
    assert job["status"] == "queued"
    assert job["error"] is None
    assert job["result_files"] == []
    assert job["fine_tuned_model"] is None
    assert isinstance(job["organization_id"], str)
    assert 0 <= job["seed"] < 2**31
    assert job["defense"]["name"] == "alignment_merge"
    assert job["method"]["supervised"]["defense"]["type"] == "alignment_merge"
    assert job["method"]["supervised"]["hyperparameters"] == job["hyperparameters"]
    assert job["hyperparameters"]["n_epochs"] == 2
    assert job["queue"]["position"] == 1
    moments = {"queue": None, "estimated_finish": None}  # of a waiting job: they go with the clock
    assert acme.get(f"{JOBS}/{job['id']}").json() | moments == job | moments
    assert gateway.count("outbox") == 1


@pytest.mark.parametrize("policy", ["block", "quarantine", "warn", "off"])
def test_a_job_says_what_becomes_of_flagged_rows(acme: TestClient, policy: str) -> None:
    job = create_job(acme, **supervised(screening={"policy": policy}))

    assert job["method"]["supervised"]["screening"] == {"policy": policy}


def test_a_job_that_does_not_say_is_screened_as_the_operator_says(
    gateway: Gateway, acme: TestClient
) -> None:
    stricter = gateway.settings.model_copy(update={"screening_policy": ScreeningPolicy.BLOCK})

    usual = create_job(acme)
    with TestClient(create_app(stricter), headers=dict(acme.headers)) as client:
        strict = create_job(client)

    assert usual["method"]["supervised"]["screening"] == {"policy": "warn"}
    assert strict["method"]["supervised"]["screening"] == {"policy": "block"}


@pytest.mark.parametrize(
    ("screening", "param"),
    [
        ({"policy": "ignore"}, "policy"),
        ({}, "policy"),
        ({"policy": "warn", "treshold": 1}, "treshold"),
    ],
)
def test_a_wrong_screening_is_refused_with_its_place(
    gateway: Gateway, acme: TestClient, screening: dict[str, Any], param: str
) -> None:
    body = job_body(upload_id(acme), **supervised(screening=screening))

    response = acme.post(JOBS, json=body)

    assert response.status_code == 400
    assert error_of(response)["param"] == f"method.supervised.screening.{param}"
    assert gateway.count("outbox") == 0


def test_all_that_was_asked_for_is_echoed(acme: TestClient) -> None:
    validation_file = upload_id(acme)

    job = create_job(
        acme,
        validation_file=validation_file,
        suffix="support-v1",
        seed=7,
        metadata={"team": "blue"},
        integrations=[],
        **supervised(
            hyperparameters={"n_epochs": 2, "batch_size": "auto", "lora_rank": 16, "max_steps": 5},
            defense={"type": "panacea", "perturbation_radius": 2.0},
        ),
    )

    assert (job["seed"], job["validation_file"]) == (7, validation_file)
    assert (job["metadata"], job["user_provided_suffix"]) == ({"team": "blue"}, "support-v1")
    hyperparameters = job["hyperparameters"]
    assert (hyperparameters["n_epochs"], hyperparameters["max_steps"]) == (2, 5)
    assert (hyperparameters["lora_rank"], hyperparameters["lora_alpha"]) == (16, 32)
    assert job["defense"]["params"]["perturbation_radius"] == 2.0


def test_the_old_place_of_hyperparameters_still_works(acme: TestClient) -> None:
    job = create_job(acme, hyperparameters={"n_epochs": 1, "learning_rate_multiplier": 2})

    assert job["method"]["supervised"]["hyperparameters"]["n_epochs"] == 1
    base_rate = ModelRegistry.load(Settings()).get(MODEL).learning_rate
    assert job["hyperparameters"]["learning_rate"] == pytest.approx(2 * base_rate)


def test_no_defense_is_a_choice(acme: TestClient) -> None:
    job = create_job(acme, **supervised(defense={"type": "none"}))

    assert job["defense"] == {"name": "none", "params": {}}


def test_a_preference_job_echoes_its_hyperparameters_in_its_method_alone(
    acme: TestClient,
) -> None:
    training_file = upload_id(acme, preferences())

    response = acme.post(
        JOBS,
        json=job_body(
            training_file,
            validation_file=upload_id(acme, preferences(3)),
            **dpo(
                hyperparameters={"n_epochs": 3, "beta": 0.25, "batch_size": "auto"},
                defense={"type": "panacea", "perturbation_radius": 2.0},
                screening={"policy": "block"},
            ),
        ),
    )

    job = response.json()
    assert (response.status_code, job["status"]) == (200, "queued"), job
    assert set(job) >= CONTRACT
    assert job["hyperparameters"] is None
    assert set(job["method"]) == {"type", "dpo"}
    assert job["method"]["type"] == "dpo"
    resolved = job["method"]["dpo"]["hyperparameters"]
    assert (resolved["n_epochs"], resolved["beta"], resolved["batch_size"]) == (3, 0.25, 4)
    assert job["method"]["dpo"]["screening"] == {"policy": "block"}
    assert job["defense"]["params"]["perturbation_radius"] == 2.0
    assert acme.get(f"{JOBS}/{job['id']}").json()["method"] == job["method"]
    validation = acme.get(f"/v1/files/{training_file}").json()["validation"]
    assert (validation["kind"], validation["usable_rows"]) == ("preference", 10)


def test_a_preference_job_may_name_an_adapter_to_begin_with(acme: TestClient) -> None:
    training_file = upload_id(acme, preferences())
    adapter = upload_id(acme, b"tar", purpose="user_data")

    def create(file_id: str) -> Any:  # noqa: ANN401 - the test client's response
        return acme.post(JOBS, json=job_body(training_file, **dpo(initial_adapter=file_id)))

    assert create(adapter).json()["method"]["dpo"]["initial_adapter"] == adapter
    missing = create("file-none")
    assert missing.status_code == 404
    assert error_of(missing)["param"] == "method.dpo.initial_adapter"


@pytest.mark.parametrize("options", [{}, {"hyperparameters": {"beta": "auto"}}, None])
def test_a_preference_job_that_does_not_say_is_guarded_with_the_defaults(
    acme: TestClient, options: dict[str, Any] | None
) -> None:
    method: dict[str, Any] = {"type": "dpo"} if options is None else {"type": "dpo", "dpo": options}

    job = acme.post(JOBS, json=job_body(upload_id(acme, preferences()), method=method)).json()

    resolved = job["method"]["dpo"]["hyperparameters"]
    assert (resolved["beta"], resolved["learning_rate_multiplier"]) == (0.1, 0.1)
    assert job["defense"]["name"] == "alignment_merge"


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
@pytest.mark.parametrize(
    ("method", "right", "wrong", "words"),
    [
        ("dpo", preferences(), row() * 10, "preferred_output"),
        ("supervised", row() * 10, preferences(), '{"messages": […]}'),
    ],
)
def test_rows_of_another_method_give_a_failed_job_that_says_so(
    gateway: Gateway,
    acme: TestClient,
    param: str,
    method: str,
    right: bytes,
    wrong: bytes,
    words: str,
) -> None:
    files = {"training_file": right, "validation_file": right} | {param: wrong}
    ids = {name: upload_id(acme, content) for name, content in files.items()}

    job = acme.post(JOBS, json={"model": MODEL, "method": {"type": method}, **ids}).json()

    other = "supervised" if method == "dpo" else "dpo"
    assert job["status"] == "failed"
    assert job["error"]["param"] == param
    assert job["error"]["code"] == f"invalid_{param}"
    assert job["error"]["message"].startswith("Line 1: the row is a ")
    assert words in job["error"]["message"]
    assert job["error"]["message"].endswith(f"method.type {other}.")
    assert gateway.count("outbox") == 0


SUPERVISED = "method.supervised"
WRONG_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"model": "no-such-model"}, "model"),
    ({"model": "../../etc/passwd"}, "model"),
    ({"model": "x" * 10_000}, "model"),
    ({"model": 3}, "model"),
    ({"training_file": "/etc/passwd"}, "training_file"),
    ({"training_file": None}, "training_file"),
    ({"validation_file": 3}, "validation_file"),
    ({"suffix": "a/b"}, "suffix"),
    ({"suffix": "a:b"}, "suffix"),
    ({"suffix": ""}, "suffix"),
    ({"suffix": "x" * 65}, "suffix"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**31}, "seed"),
    ({"seed": "7"}, "seed"),
    ({"seed": True}, "seed"),
    ({"metadata": {"k": 3}}, "metadata.k"),
    ({"metadata": {"k" * 65: "v"}}, "metadata.<key>"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k"),
    ({"metadata": {str(n): "v" for n in range(17)}}, "metadata"),
    ({"integrations": [{"type": "wandb"}]}, "integrations"),
    ({"status": "succeeded"}, "status"),
    ({"project_id": "proj-other"}, "project_id"),
    ({"safety": {"verdict": "released"}}, "safety"),
    ({"method": {"type": "reinforcement"}}, "method.type"),
    ({"method": {"type": "reinforcement", "reinforcement": {"grader": {}}}}, "method.type"),
    ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised"),
    ({"method": {"type": "supervised", "dpo": {}}}, "method.dpo"),
    ({"method": {"dpo": {}}}, "method.dpo"),
    ({"method": {"type": "dpo"}, "hyperparameters": {"n_epochs": 1}}, "hyperparameters"),
    (dpo(hyperparameters={"beta": 0}), "method.dpo.hyperparameters.beta"),
    (dpo(hyperparameters={"beta": 2.1}), "method.dpo.hyperparameters.beta"),
    (dpo(hyperparameters={"beta": "0.1"}), "method.dpo.hyperparameters.beta"),
    (dpo(hyperparameters={"n_epochs": 51}), "method.dpo.hyperparameters.n_epochs"),
    (dpo(hyperparameters={"lora_rank": 1}), "method.dpo.hyperparameters.lora_rank"),
    (
        dpo(hyperparameters={"compute_multiplier": 1}),
        "method.dpo.hyperparameters.compute_multiplier",
    ),
    (dpo(defense={"type": "panacea", "rho": 1}), "method.dpo.defense.rho"),
    (dpo(screening={"policy": "ignore"}), "method.dpo.screening.policy"),
    (dpo(grader={}), "method.dpo.grader"),
    (supervised(hyperparameters={"beta": 0.1}), "method.supervised.hyperparameters.beta"),
    ({"method": {"type": "supervised", "panacea": {}}}, "method.panacea"),
    (supervised(hyperparameters={"n_epochs": 0}), f"{SUPERVISED}.hyperparameters.n_epochs"),
    (supervised(hyperparameters={"n_epochs": "3"}), f"{SUPERVISED}.hyperparameters.n_epochs"),
    (supervised(hyperparameters={"batch_size": 257}), f"{SUPERVISED}.hyperparameters.batch_size"),
    (supervised(hyperparameters={"lora_rank": 1}), f"{SUPERVISED}.hyperparameters.lora_rank"),
    (supervised(hyperparameters={"epochs": 1}), f"{SUPERVISED}.hyperparameters.epochs"),
    ({"hyperparameters": {"lora_rank": 1}}, "hyperparameters.lora_rank"),
    ({"hyperparameters": {"n_epochs": 51}}, "hyperparameters.n_epochs"),
    (
        {"hyperparameters": {"n_epochs": 1}, **supervised(hyperparameters={"n_epochs": 2})},
        "hyperparameters",
    ),
    (supervised(defense={"type": "magic"}), f"{SUPERVISED}.defense.type"),
    (supervised(defense={}), f"{SUPERVISED}.defense.type"),
    (supervised(defense="panacea"), f"{SUPERVISED}.defense"),
    (
        supervised(defense={"type": "panacea", "perturbation_radius": -1}),
        f"{SUPERVISED}.defense.perturbation_radius",
    ),
    (supervised(defense={"type": "panacea", "rho": 1}), f"{SUPERVISED}.defense.rho"),
    (supervised(defence={"type": "panacea"}), f"{SUPERVISED}.defence"),
]


@pytest.mark.parametrize(("changes", "param"), WRONG_VALUES)
def test_a_wrong_value_is_refused_at_its_place_and_makes_no_job(
    gateway: Gateway, acme: TestClient, changes: dict[str, Any], param: str
) -> None:
    body = job_body(upload_id(acme)) | changes

    response = acme.post(JOBS, json=body)

    assert response.status_code == 400, response.text
    assert error_of(response)["param"] == param
    assert gateway.count("jobs") == 0
    assert gateway.count("outbox") == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"type": "panacea", "guard_intervall": 1},
            f"{SUPERVISED}.defense.guard_intervall: unknown option; did you mean guard_interval?",
        ),
        (
            {"type": "none", "rho": 1},
            f"{SUPERVISED}.defense.rho: unknown option; known are type.",
        ),
        (
            {"type": "booster"},
            (
                f"{SUPERVISED}.defense.type: is a method the operator aligns base models by; "
                f"must be one of {', '.join(DEFENSES)}."
            ),
        ),
        (
            {"type": "none", "<script>": 1},
            f"{SUPERVISED}.defense.<key>: unknown option; known are type.",
        ),
    ],
)
def test_an_unknown_option_of_a_defense_comes_with_the_known_ones(
    acme: TestClient, options: dict[str, Any], message: str
) -> None:
    response = acme.post(JOBS, json=job_body(upload_id(acme), **supervised(defense=options)))

    error = error_of(response)
    assert error["code"] == "invalid_defense_config"
    assert error["message"] == f"{message} `GET /v1/defenses` lists the options of each defense."
    assert error["param"] == message.partition(":")[0]


def test_missing_fields_are_named(acme: TestClient) -> None:
    response = acme.post(JOBS, json={"model": MODEL})

    assert response.status_code == 400
    assert error_of(response)["param"] == "training_file"


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ('{"model": "%s", "seed": NaN}', "number_not_finite", "seed"),
        ('{"model": "%s", "seed": 1e400}', "number_not_finite", "seed"),
        ('{"model": "%s", "suffix": "a\\u0000b"}', "null_character", "suffix"),
        ('{"model": "%s", "suffix": "\\ud800"}', "lone_surrogate", "suffix"),
        ('{"model": "%s", "model": "other"}', "duplicate_key", None),
        ('{"model": "%s"', "invalid_json", None),
        ('{"model": "%s", "metadata": ' + "[" * 5_000, "nested_too_deep", None),
        ("[]", "invalid_value", None),
        ("", "invalid_json", None),
    ],
)
def test_json_that_is_not_strict_is_refused(
    gateway: Gateway, acme: TestClient, text: str, code: str, param: str | None
) -> None:
    response = acme.post(JOBS, content=text.replace("%s", MODEL))

    assert response.status_code == 400, response.text
    error = error_of(response)
    assert (error["code"], error["param"]) == (code, param)
    assert gateway.count("jobs") == 0


def test_no_answer_repeats_what_was_sent(acme: TestClient) -> None:
    canary = "canary-7f3a9"
    file_id = upload_id(acme)
    bodies: list[dict[str, Any]] = [
        {canary: canary},
        job_body(canary),
        job_body(file_id, suffix=f"{canary}/"),
        job_body(file_id) | {"model": canary},
        job_body(file_id, metadata={"k": canary * 100}),
        job_body(file_id, **supervised(defense={"type": canary})),
        job_body(file_id, **supervised(hyperparameters={"n_epochs": canary})),
    ]

    for body in bodies:
        response = acme.post(JOBS, json=body)
        assert response.status_code in {400, 404}
        assert canary not in response.json()["error"]["message"]


@pytest.mark.parametrize("field", ["training_file", "validation_file"])
def test_unknown_and_foreign_files_look_the_same(
    gateway: Gateway, acme: TestClient, rival: TestClient, field: str
) -> None:
    good = upload_id(acme)

    answers = [
        acme.post(JOBS, json=job_body(good) | {field: file_id})
        for file_id in ("file-unknown", upload_id(rival))
    ]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].json() == answers[1].json()
    assert error_of(answers[0])["param"] == field
    assert gateway.count("jobs") == 0


@pytest.mark.parametrize("field", ["training_file", "validation_file"])
def test_a_file_of_another_purpose_is_refused(
    gateway: Gateway, acme: TestClient, field: str
) -> None:
    wrong = upload_id(acme, purpose="user_data")

    response = acme.post(JOBS, json=job_body(upload_id(acme)) | {field: wrong})

    assert response.status_code == 400
    assert error_of(response)["param"] == field
    assert gateway.count("jobs") == 0


def test_a_training_file_with_mistakes_fails_its_job_and_starts_nothing(
    gateway: Gateway, acme: TestClient
) -> None:
    response = acme.post(JOBS, json=job_body(upload_id(acme, BAD_ROWS)))

    job = response.json()
    assert response.status_code == 200
    assert job["status"] == "failed"
    assert job["finished_at"] is not None
    assert job["error"]["code"] == "invalid_training_file"
    assert job["error"]["param"] == "training_file"
    assert job["error"]["message"] == (
        "1 mistake in training_file (3 rows). Line 3, messages[0].role: the role is unknown. "
        "Known roles are system, user, assistant; developer stands for system."
    )
    assert gateway.count("outbox") == 0
    events = acme.get(f"{JOBS}/{job['id']}/events").json()["data"]
    assert [event["level"] for event in events] == ["error", "info"]
    assert events[0]["message"] == job["error"]["message"]


@pytest.mark.parametrize(
    ("mistakes", "place"),
    [
        (2, "`validation.errors` of `GET /v1/files/{id}`."),
        (21, "`GET /v1/files/{validation_report_file}/content`."),
    ],
)
def test_more_than_one_mistake_comes_with_the_place_of_the_others(
    acme: TestClient, mistakes: int, place: str
) -> None:
    file = upload(acme, b"{}\n" * mistakes).json()

    message = acme.post(JOBS, json=job_body(file["id"])).json()["error"]["message"]

    assert message.startswith(f"{mistakes} mistakes in training_file")
    assert message.endswith(f" All are in {place.format(**file)}")
    assert len(file["validation"]["errors"]) == min(mistakes, 20)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json lines",
        b"[\n  {}\n]\n",
        b"\xff\xfe",
        b"{}\n",
        b'{"messages": [{"role": "user", "content": "Hi"}]}\n',
        b'{"messages": "' + b"x" * 3_000 + b'"}\n',
        b"\n\n\n",
    ],
)
def test_every_kind_of_bad_file_fails_its_job(
    gateway: Gateway, acme: TestClient, content: bytes
) -> None:
    job = acme.post(JOBS, json=job_body(upload_id(acme, content))).json()

    assert job["status"] == "failed"
    assert job["error"]["code"] == "invalid_training_file"
    assert "Line 1" in job["error"]["message"]
    assert gateway.count("outbox") == 0


def test_a_validation_file_with_mistakes_fails_the_job_too(acme: TestClient) -> None:
    body = job_body(upload_id(acme), validation_file=upload_id(acme, BAD_ROWS))

    error = acme.post(JOBS, json=body).json()["error"]

    assert (error["code"], error["param"]) == ("invalid_validation_file", "validation_file")


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
def test_a_row_with_more_words_than_tokens_fit_fails_its_job_and_starts_nothing(
    gateway: Gateway, acme: TestClient, param: str
) -> None:
    fits, too_long = row("so " * 127), row("so " * 128)  # "Hi" is one word more
    files = {name: upload_id(acme) for name in ("training_file", "validation_file")}
    files[param] = upload_id(acme, fits + too_long)

    job = acme.post(JOBS, json=job_body(**files)).json()

    assert job["status"] == "failed"
    assert job["error"] == {
        "code": f"invalid_{param}",
        "message": "Line 2, messages: the row has 129 words, and so more than 128 tokens, the most "
        "this model may be trained on. Split or shorten the conversation.",
        "param": param,
    }
    assert gateway.count("outbox") == 0
    assert create_job(acme, validation_file=upload_id(acme, fits))["status"] == "queued"


def publish_tokenizer(gateway: Gateway, source: str) -> None:
    document = published(tiny_tokenizer(), source)
    gateway.storage.put_bytes(tokenizer_key(MODEL), document.model_dump_json().encode())


SOURCE = str(ModelRegistry.load(Settings()).get(MODEL).source)
DENSE = row("x" * 128)  # one word, and with this tokenizer as many tokens as letters


@pytest.mark.parametrize("param", ["training_file", "validation_file"])
def test_a_row_with_too_many_tokens_fails_its_job_and_starts_nothing(
    gateway: Gateway, acme: TestClient, param: str
) -> None:
    publish_tokenizer(gateway, SOURCE)
    files = {name: upload_id(acme) for name in ("training_file", "validation_file")}
    files[param] = upload_id(acme, row() + DENSE + row())

    job = acme.post(JOBS, json=job_body(**files)).json()

    assert job["status"] == "failed"
    assert job["error"] == {
        "code": f"invalid_{param}",
        "message": "Line 2, messages: the row has more than 128 tokens, the most this model may be "
        "trained on. Split or shorten the conversation.",
        "param": param,
    }
    assert gateway.count("outbox") == 0
    events = acme.get(f"{JOBS}/{job['id']}/events").json()["data"]
    assert events[0]["data"]["rows"] == [{"line": 2, "code": "too_many_tokens"}]


def test_all_rows_with_too_many_tokens_are_named(gateway: Gateway, acme: TestClient) -> None:
    publish_tokenizer(gateway, SOURCE)
    few, many = upload_id(acme, DENSE * 2), upload_id(acme, DENSE * 30)

    messages = [
        acme.post(JOBS, json=job_body(file)).json()["error"]["message"] for file in (few, many)
    ]

    assert messages[0].startswith("Lines 1, 2, messages: the rows have more than 128 tokens")
    assert "18, 19, 20 and others, messages: the rows have" in messages[1]


@pytest.mark.parametrize("source", [None, "path:another"])
def test_without_the_models_tokenizer_counting_is_left_to_the_worker(
    gateway: Gateway, acme: TestClient, source: str | None
) -> None:
    if source is not None:
        publish_tokenizer(gateway, source)

    job = acme.post(JOBS, json=job_body(upload_id(acme, DENSE))).json()

    assert job["status"] == "queued"


def test_a_file_is_counted_once_for_a_model(
    gateway: Gateway, acme: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_tokenizer(gateway, SOURCE)
    file = upload_id(acme, DENSE)
    first = acme.post(JOBS, json=job_body(file, suffix="one")).json()
    monkeypatch.setattr(token_checks, "check_tokens", None)  # cannot be called

    second = acme.post(JOBS, json=job_body(file, suffix="two")).json()

    assert first["id"] != second["id"]
    assert first["error"] == second["error"]


def test_a_count_that_finds_no_place_is_left_to_the_worker(
    gateway: Gateway, acme: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_tokenizer(gateway, SOURCE)
    monkeypatch.setattr(token_checks, "PATIENCE", timedelta(0))
    turns = gateway.app.state.gateway.token_checks._turns
    for _ in range(token_checks.AT_ONCE):
        turns.acquire()

    job = acme.post(JOBS, json=job_body(upload_id(acme, DENSE))).json()

    assert job["status"] == "queued"


def test_a_body_with_more_keys_than_any_request_has_is_refused_as_a_whole(
    acme: TestClient,
) -> None:
    body = {str(number): 1 for number in range(1001)}

    response = acme.post(JOBS, json=job_body("file-x", metadata=body))

    assert response.status_code == 400
    assert "more than 1000 keys" in error_of(response)["message"]


def test_jobs_are_listed_newest_first_page_by_page(acme: TestClient, rival: TestClient) -> None:
    create_job(rival)
    ids = [create_job(acme)["id"] for _ in range(3)]

    first = acme.get(JOBS, params={"limit": 2}).json()
    second = acme.get(JOBS, params={"limit": 2, "after": ids[1]}).json()

    assert [job["id"] for job in first["data"]] == [ids[2], ids[1]]
    assert [job["queue"]["position"] for job in first["data"]] == [4, 3]
    assert (first["object"], first["has_more"]) == ("list", True)
    assert [job["id"] for job in second["data"]] == [ids[0]]
    assert second["has_more"] is False


def test_jobs_are_listed_by_their_metadata(acme: TestClient) -> None:
    blue = create_job(acme, metadata={"team": "blue", "run": "1"})["id"]
    create_job(acme, metadata={"team": "red"})
    bare = create_job(acme)["id"]

    by_team = acme.get(JOBS, params={"metadata[team]": "blue", "metadata[run]": "1"}).json()
    without = acme.get(JOBS, params={"metadata": "null"}).json()

    assert [job["id"] for job in by_team["data"]] == [blue]
    assert [job["id"] for job in without["data"]] == [bare]


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"after": "ftjob-unknown"}, "after"),
        ({"after": "\0"}, "after"),
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"metadata[]": "x"}, "metadata"),
        ({"metadata[k": "x"}, "metadata"),
        ({"metadata[k]": "a\0b"}, "metadata"),
        ({"metadata[k]": "x" * 513}, "metadata"),
    ],
)
def test_a_wrong_page_is_refused(acme: TestClient, params: dict[str, str], param: str) -> None:
    response = acme.get(JOBS, params=params)

    assert response.status_code == 400
    assert error_of(response)["param"] == param


def test_events_come_newest_first_page_by_page(acme: TestClient) -> None:
    events = f"{JOBS}/{create_job(acme)['id']}/events"

    first = acme.get(events, params={"limit": 1}).json()
    second = acme.get(events, params={"limit": 1, "after": first["last_id"]}).json()

    newest, oldest = first["data"][0], second["data"][0]
    assert newest["message"] == "Files validated, moving job to queued state"
    assert oldest["message"].startswith("Created fine-tuning job: ftjob-")
    assert newest["id"].startswith("ftevent-")
    assert set(newest) == {"id", "object", "created_at", "level", "message", "type", "data"}
    assert (first["has_more"], second["has_more"]) == (True, False)


def test_an_event_of_another_job_is_no_cursor(acme: TestClient) -> None:
    mine, other = create_job(acme)["id"], create_job(acme)["id"]
    event_id = acme.get(f"{JOBS}/{other}/events").json()["data"][0]["id"]

    for after in (event_id, "ftevent-unknown"):
        response = acme.get(f"{JOBS}/{mine}/events", params={"after": after})
        assert response.status_code == 400
        assert error_of(response)["param"] == "after"


def test_a_waiting_job_is_cancelled_at_once(acme: TestClient) -> None:
    job_id = create_job(acme)["id"]

    cancelled = acme.post(f"{JOBS}/{job_id}/cancel").json()

    assert (cancelled["status"], cancelled["queue"]) == ("cancelled", None)
    assert cancelled["finished_at"] is not None
    events = acme.get(f"{JOBS}/{job_id}/events").json()["data"]
    assert events[0]["message"] == "Job cancelled."


def test_a_running_job_is_asked_to_stop_once(gateway: Gateway, acme: TestClient) -> None:
    job_id = create_job(acme)["id"]
    claim(gateway)

    before = acme.get(f"{JOBS}/{job_id}").json()

    answers = [acme.post(f"{JOBS}/{job_id}/cancel").json() for _ in range(2)]

    assert [answer["status"] for answer in answers] == ["running", "running"]
    assert before["cancel_requested_at"] is None
    assert answers[0]["cancel_requested_at"] >= before["created_at"]
    assert answers[1]["cancel_requested_at"] == answers[0]["cancel_requested_at"]
    messages = [event["message"] for event in acme.get(f"{JOBS}/{job_id}/events").json()["data"]]
    assert messages.count("Cancellation requested.") == 1


def test_a_finished_job_is_not_cancelled_again(acme: TestClient) -> None:
    job_id = create_job(acme)["id"]
    acme.post(f"{JOBS}/{job_id}/cancel")

    response = acme.post(f"{JOBS}/{job_id}/cancel")

    assert response.status_code == 400
    assert error_of(response)["code"] == "job_not_cancellable"


ROUTES = [("GET", ""), ("POST", "/cancel"), ("POST", "/pause"), ("POST", "/resume"),
          ("GET", "/events"), ("GET", "/adapter"), ("GET", "/safety_report"),
          ("GET", "/attribution"), ("GET", "/safety_report/answers")]  # fmt: skip


@pytest.mark.parametrize(("method", "suffix"), ROUTES)
def test_another_projects_job_looks_unknown(
    acme: TestClient, rival: TestClient, method: str, suffix: str
) -> None:
    job_id = create_job(acme)["id"]

    foreign = rival.request(method, f"{JOBS}/{job_id}{suffix}")
    unknown = rival.request(method, f"{JOBS}/ftjob-unknown{suffix}")
    nonsense = rival.request(method, f"{JOBS}/%00{suffix}")

    assert [answer.status_code for answer in (foreign, unknown, nonsense)] == [404, 404, 404]
    assert foreign.json() == unknown.json() == nonsense.json()
    assert acme.get(f"{JOBS}/{job_id}").json()["status"] == "queued"


def test_the_wake_up_carries_no_data(gateway: Gateway, acme: TestClient) -> None:
    create_job(acme)

    with gateway.database.session() as session:
        newest = "SELECT task_name, payload FROM outbox ORDER BY id DESC LIMIT 1"
        rows = session.connection().exec_driver_sql(newest).all()

    assert [(name, json.dumps(payload)) for name, payload in rows] == [
        ("tuneward.wake_worker", "{}")
    ]
