import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from defense.catalog import DEFENSES, schema_of
from defense.errors import InvalidConfigError
from defense.fine_tuning.panacea.config import PanaceaConfig
from defense.fine_tuning.supervised.config import SupervisedConfig
from defense.job_defense import DEFAULT_DEFENSE, FOLLOWED_BY, JobDefense, parse_defense
from defense.post_fine_tuning.alignment_merge.config import AlignmentMergeConfig
from defense.post_fine_tuning.panacea_endpoint.config import PanaceaEndpointConfig
from defense.post_fine_tuning.refusal_restoration.config import RefusalRestorationConfig


def test_a_type_alone_gives_the_defaults() -> None:
    assert parse_defense({"type": "panacea"}) == JobDefense(PanaceaConfig())
    assert parse_defense({"type": "none"}) == JobDefense(SupervisedConfig())


@pytest.mark.parametrize("name", DEFENSES)
def test_a_defense_survives_being_written_out(name: str) -> None:
    defense = parse_defense({"type": name})

    assert next(iter(defense.dump())) == "type"
    assert parse_defense(defense.dump()) == defense


def test_a_post_fine_tuning_method_alone_follows_plain_fine_tuning() -> None:
    defense = parse_defense({"type": "refusal_restoration"})

    assert defense == JobDefense(SupervisedConfig(), RefusalRestorationConfig())
    assert defense.ending == RefusalRestorationConfig()


def test_what_follows_takes_the_place_of_a_methods_own_ending() -> None:
    alone = parse_defense({"type": "panacea"})
    followed = parse_defense({"type": "panacea", FOLLOWED_BY: {"type": "panacea_endpoint"}})

    assert alone.ending == alone.searched == PanaceaConfig()
    assert followed.ending == followed.searched == PanaceaEndpointConfig()
    assert parse_defense(followed.dump()) == followed


def test_the_default_defense_is_one_of_the_catalogue() -> None:
    assert isinstance(parse_defense(DEFAULT_DEFENSE).ending, AlignmentMergeConfig)


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        ({"type": "refusal_restoration", FOLLOWED_BY: {"type": "panacea_endpoint"}}, FOLLOWED_BY),
        ({"type": "panacea", FOLLOWED_BY: "panacea_endpoint"}, FOLLOWED_BY),
        ({"type": "panacea", FOLLOWED_BY: {}}, f"{FOLLOWED_BY}.type"),
        ({"type": "panacea", FOLLOWED_BY: {"type": "panacea"}}, f"{FOLLOWED_BY}.type"),
        (
            {"type": "none", FOLLOWED_BY: {"type": "panacea_endpoint", "steps": 2}},
            f"{FOLLOWED_BY}.steps",
        ),
    ],
)
def test_methods_that_do_not_go_together_are_refused_by_their_place(
    raw: dict[str, object], param: str
) -> None:
    with pytest.raises(InvalidConfigError) as caught:
        parse_defense(raw)

    assert caught.value.param == param


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


@pytest.mark.parametrize("name", ["vaccines", None, 3, ["panacea"]])
def test_an_unknown_defense_is_refused_with_the_known_ones(name: object) -> None:
    with pytest.raises(InvalidConfigError, match="'panacea'") as caught:
        parse_defense({"type": name})

    assert caught.value.param == "type"


def test_the_published_perturbation_needs_a_training_probe() -> None:
    raw = {
        "type": "panacea",
        "final_perturbation": "last_batch",
        "regularization_strength": 0,
    }

    with pytest.raises(InvalidConfigError, match="probe"):
        parse_defense(raw)


def test_whole_numbers_are_accepted_where_a_fraction_is_meant() -> None:
    searched = parse_defense({"type": "panacea", "perturbation_strength": 1}).searched

    assert searched is not None
    assert searched.perturbation_strength == 1.0


def test_options_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        PanaceaConfig().perturbation_radius = 2.0  # type: ignore[misc]


def test_options_survive_json() -> None:
    config = PanaceaConfig(perturbation_radius=0.25)

    assert PanaceaConfig.model_validate_json(config.model_dump_json()) == config


def test_every_option_of_every_defense_is_described() -> None:
    for entry in DEFENSES.values():
        schema: dict[str, Any] = schema_of(entry.config_class)
        for name, option in schema["properties"].items():
            assert option.get("description"), f"{entry.name}.{name}"
            assert "default" in option, f"{entry.name}.{name}"


def test_the_catalogue_imports_no_torch() -> None:
    code = (
        "import sys, defense.catalog, defense.errors\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
