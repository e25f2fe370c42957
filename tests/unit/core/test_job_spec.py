import json
from typing import Any

import pytest
from pydantic import ValidationError

from core.job_spec import (
    DpoHyperparameters,
    Hyperparameters,
    JobSpec,
    RequestedDpoHyperparameters,
    RequestedHyperparameters,
    resolve_defense,
)
from core.screening import Screening, ScreeningPolicy
from defense.errors import InvalidConfigError
from defense.fine_tuning.panacea.config import PanaceaConfig
from defense.fine_tuning.supervised.config import SupervisedConfig
from defense.job_defense import DEFAULT_DEFENSE, JobDefense, parse_defense

HYPERPARAMETERS = Hyperparameters(
    n_epochs=2,
    batch_size=4,
    learning_rate_multiplier=1.0,
    learning_rate=1e-3,
    lora_rank=4,
    lora_alpha=8,
    target_modules=("q_proj", "v_proj"),
    max_sequence_tokens=512,
)


@pytest.mark.parametrize(
    "requested",
    [
        {"n_epochs": 0},
        {"n_epochs": 51},
        {"n_epochs": "3"},
        {"n_epochs": True},
        {"n_epochs": 1.5},
        {"batch_size": 257},
        {"learning_rate_multiplier": 0},
        {"learning_rate_multiplier": -1.0},
        {"learning_rate_multiplier": float("nan")},
        {"learning_rate": float("inf")},
        {"learning_rate": 0.2},
        {"lora_rank": 257},
        {"lora_alpha": 0},
        {"target_modules": []},
        {"target_modules": ["q.proj"]},
        {"max_steps": 0},
        {"surprise": 1},
    ],
)
def test_values_out_of_range_are_refused_at_their_place(requested: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        RequestedHyperparameters.model_validate(requested)

    assert caught.value.errors()[0]["loc"][0] == next(iter(requested))


def test_the_api_reference_says_auto_and_not_null() -> None:
    schema = RequestedHyperparameters.model_json_schema()["properties"]["n_epochs"]

    assert schema["default"] == "auto"
    assert {"const": "auto", "type": "string"} in schema["anyOf"]
    assert {"type": "integer", "minimum": 1, "maximum": 50} in schema["anyOf"]


def test_no_defense_asked_for_means_the_default_with_all_its_options() -> None:
    assert resolve_defense(None) == parse_defense(DEFAULT_DEFENSE).dump()
    assert resolve_defense(None)["perturbation_strength"] == 1.0
    assert resolve_defense({"type": "none"}) == {"type": "none"}


def test_an_unknown_defense_or_option_is_refused_by_its_name() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        resolve_defense({"type": "panacea", "surprise": 1})
    assert caught.value.param == "surprise"

    with pytest.raises(InvalidConfigError) as caught:
        resolve_defense({})
    assert caught.value.param == "type"


def test_a_spec_survives_its_storage_as_json() -> None:
    spec = JobSpec(
        model="tiny",
        hyperparameters=HYPERPARAMETERS,
        defense=resolve_defense({"type": "panacea", "perturbation_radius": 2.0}),
        seed=7,
    )

    stored = json.loads(json.dumps(spec.stored()))

    assert JobSpec.model_validate(stored) == spec
    config = JobSpec.model_validate(stored).job_defense().fine_tuning
    assert isinstance(config, PanaceaConfig)
    assert config.perturbation_radius == 2.0


def test_a_stored_spec_names_what_it_uses_and_no_more() -> None:
    spec = JobSpec(model="t", hyperparameters=HYPERPARAMETERS, defense={"type": "none"}, seed=0)
    strict = spec.model_copy(update={"screening": Screening(policy=ScreeningPolicy.BLOCK)})

    assert not {"parent", "screening", "checkpoints"} & spec.stored().keys()
    assert spec.model_copy(update={"checkpoints": 2}).stored()["checkpoints"] == 2
    assert strict.stored()["screening"] == {"policy": "block"}
    assert JobSpec.model_validate(strict.stored()) == strict


def test_a_spec_without_a_defense_has_a_plain_configuration() -> None:
    spec = JobSpec(model="t", hyperparameters=HYPERPARAMETERS, defense={"type": "none"}, seed=0)

    assert spec.job_defense() == JobDefense(SupervisedConfig())


@pytest.mark.parametrize("beta", [0.0, -1.0, 2.01, True, "0.1", float("inf")])
def test_a_beta_outside_the_contract_is_refused(beta: object) -> None:
    with pytest.raises(ValidationError):
        RequestedDpoHyperparameters.model_validate({"beta": beta})


def test_a_preference_job_keeps_its_beta_and_no_other_job_has_one() -> None:
    common: dict[str, Any] = {"model": "tiny", "defense": {"type": "none"}, "seed": 1}
    spec = JobSpec(
        method="dpo",
        hyperparameters=DpoHyperparameters(**HYPERPARAMETERS.model_dump(), beta=2.0),
        **common,
    )

    stored = json.loads(json.dumps(spec.stored()))

    assert stored["hyperparameters"]["beta"] == 2.0
    assert JobSpec.model_validate(stored) == spec
    supervised = JobSpec(hyperparameters=HYPERPARAMETERS, **common)
    assert "beta" not in json.dumps(supervised.stored())
    for kept, other in ((spec, "supervised"), (supervised, "dpo")):
        with pytest.raises(ValidationError, match="beta"):
            JobSpec.model_validate(kept.stored() | {"method": other})
