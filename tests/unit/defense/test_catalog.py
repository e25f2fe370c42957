import subprocess
import sys

import pytest
from pydantic import ValidationError

from defense.catalog import DEFAULT_DEFENSE, DEFENSES, catalogue, parse_defense
from defense.errors import InvalidConfigError
from defense.fine_tuning.panacea.config import PanaceaConfig
from defense.fine_tuning.supervised.config import SupervisedConfig


def test_a_type_alone_gives_the_defaults() -> None:
    assert parse_defense({"type": "panacea"}) == PanaceaConfig()
    assert parse_defense({"type": "none"}) == SupervisedConfig()


def test_the_default_defense_is_in_the_catalogue() -> None:
    assert DEFAULT_DEFENSE in DEFENSES


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("perturbation_radius", 0),
        ("perturbation_radius", "0.5"),
        ("perturbation_radius", float("nan")),
        ("regularization_strength", -0.1),
        ("harmful_batch_size", 0),
        ("harmful_batch_size", 2.5),
        ("guard_interval", 0),
        ("guard_interval", True),
        ("final_perturbation", "first_batch"),
        ("perturbation_direction", "sideways"),
        ("perturbation_steps", 0),
        ("perturbation_strength", 11.0),
        ("perturbation_strength", -1),
        ("perturbation_strength", "strong"),
        ("harmful_target_rate", 1.5),
        ("task_loss_budget", -0.1),
        ("radius", 1),
    ],
)
def test_a_bad_option_is_refused_by_its_name(option: str, value: object) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        parse_defense({"type": "panacea", option: value})

    assert caught.value.param == option


@pytest.mark.parametrize("name", ["vaccine", None, 3, ["panacea"]])
def test_an_unknown_defense_is_refused_with_the_known_ones(name: object) -> None:
    with pytest.raises(InvalidConfigError, match="'panacea'") as caught:
        parse_defense({"type": name})

    assert caught.value.param == "type"


def test_the_published_perturbation_needs_the_published_direction() -> None:
    with pytest.raises(InvalidConfigError, match="harmful_ascent") as caught:
        parse_defense({"type": "panacea", "final_perturbation": "last_batch"})

    assert caught.value.param == "final_perturbation"


def test_the_published_perturbation_needs_a_training_probe() -> None:
    raw = {
        "type": "panacea",
        "final_perturbation": "last_batch",
        "perturbation_direction": "harmful_ascent",
        "regularization_strength": 0,
    }

    with pytest.raises(InvalidConfigError, match="probe"):
        parse_defense(raw)


def test_whole_numbers_are_accepted_where_a_fraction_is_meant() -> None:
    config = parse_defense({"type": "panacea", "perturbation_strength": 1})

    assert isinstance(config, PanaceaConfig)
    assert config.perturbation_strength == 1.0


def test_options_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        PanaceaConfig().perturbation_radius = 2.0  # type: ignore[misc]


def test_options_survive_json() -> None:
    config = PanaceaConfig(perturbation_radius=0.25)

    assert PanaceaConfig.model_validate_json(config.model_dump_json()) == config


def test_every_option_of_every_defense_is_described() -> None:
    for entry in catalogue():
        schema = entry["schema"]
        assert isinstance(schema, dict)
        for name, option in schema["properties"].items():
            assert option.get("description"), f"{entry['name']}.{name}"
            assert "default" in option, f"{entry['name']}.{name}"


def test_the_catalogue_imports_no_torch() -> None:
    code = (
        "import sys, defense.catalog, defense.errors\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
