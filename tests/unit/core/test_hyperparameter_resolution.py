"""What "auto" becomes, and which values do not go together."""

from typing import Any

import pytest

from core.errors import InvalidRequestError
from core.hyperparameter_resolution import resolve_hyperparameters
from core.job_spec import (
    AUTO_BETA,
    AUTO_DPO_MULTIPLIER,
    DpoHyperparameters,
    Hyperparameters,
    RequestedDpoHyperparameters,
    RequestedHyperparameters,
)
from core.model_registry import AlignedAdapter, LoraDefaults, ModelEntry, Source


def entry(*, aligned: bool = True) -> ModelEntry:
    return ModelEntry(
        id="tiny",
        title="Tiny",
        owned_by="us",
        created=0,
        licence="MIT",
        source=Source.parse("path:/tiny"),
        chat_template="x",
        learning_rate=1e-3,
        max_sequence_tokens=512,
        lora=LoraDefaults(
            rank=4,
            alpha=8,
            target_modules=("q_proj", "v_proj"),
            available_modules=("q_proj", "k_proj", "v_proj"),
        ),
        aligned_adapter=AlignedAdapter(
            source=Source.parse("resource:a"), rank=4, target_modules=("q_proj",)
        )
        if aligned
        else None,
    )


def resolve(*, aligned: bool = True, **requested: object) -> Hyperparameters:
    return resolve_hyperparameters(
        RequestedHyperparameters.model_validate(requested),
        entry(aligned=aligned),
        usable_rows=100,
        max_sequence_tokens=2048,
    )


def test_auto_takes_the_models_defaults() -> None:
    assert resolve(n_epochs="auto", lora_rank=None) == Hyperparameters(
        n_epochs=2,
        batch_size=4,
        learning_rate_multiplier=1.0,
        learning_rate=1e-3,
        lora_rank=4,
        lora_alpha=8,
        target_modules=("q_proj", "v_proj"),
        max_sequence_tokens=512,
    )


def test_a_multiplier_scales_the_models_learning_rate() -> None:
    assert resolve(learning_rate_multiplier=2).learning_rate == 2e-3


def test_a_learning_rate_of_its_own_sets_the_multiplier() -> None:
    hyperparameters = resolve(learning_rate=4e-3)

    assert hyperparameters.learning_rate == 4e-3
    assert hyperparameters.learning_rate_multiplier == 4.0


def test_alpha_follows_the_rank_unless_given() -> None:
    assert resolve(lora_rank=16).lora_alpha == 32
    assert resolve(lora_rank=16, lora_alpha=16).lora_alpha == 16


def test_a_batch_is_no_larger_than_the_file() -> None:
    hyperparameters = resolve_hyperparameters(
        RequestedHyperparameters(), entry(), usable_rows=3, max_sequence_tokens=100
    )

    assert hyperparameters.batch_size == 3
    assert hyperparameters.max_sequence_tokens == 100


def test_target_modules_are_put_in_the_models_order() -> None:
    modules = resolve(target_modules=["v_proj", "q_proj", "k_proj"]).target_modules

    assert modules == ("q_proj", "k_proj", "v_proj")


@pytest.mark.parametrize(
    ("requested", "param"),
    [
        ({"learning_rate": 2e-3, "learning_rate_multiplier": 1.0}, "learning_rate"),
        ({"max_sequence_tokens": 511}, "max_sequence_tokens"),
        ({"lora_rank": 3}, "lora_rank"),
        ({"target_modules": ["q_proj", "lm_head"]}, "target_modules"),
        ({"target_modules": ["k_proj"]}, "target_modules"),
    ],
)
def test_values_that_contradict_the_model_are_refused(
    requested: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        resolve(**requested)

    assert caught.value.param == param


def test_without_an_aligned_adapter_any_rank_and_layers_will_do() -> None:
    hyperparameters = resolve(aligned=False, lora_rank=1, target_modules=["k_proj"])

    assert hyperparameters.lora_rank == 1
    assert hyperparameters.target_modules == ("k_proj",)


def resolve_dpo(**requested: object) -> Hyperparameters:
    return resolve_hyperparameters(
        RequestedDpoHyperparameters.model_validate(requested),
        entry(),
        usable_rows=100,
        max_sequence_tokens=2048,
    )


def test_preferences_have_a_beta_and_a_gentler_learning_rate() -> None:
    resolved = resolve_dpo(beta="auto")

    assert isinstance(resolved, DpoHyperparameters)
    assert resolved.beta == AUTO_BETA
    assert resolved.learning_rate == pytest.approx(entry().learning_rate * AUTO_DPO_MULTIPLIER)
    assert resolve_dpo(learning_rate_multiplier=1.0).learning_rate == entry().learning_rate


@pytest.mark.parametrize("asked", [{}, {"learning_rate": 3e-4}, {"learning_rate_multiplier": 0.3}])
def test_what_was_resolved_can_be_asked_for_again(asked: dict[str, Any]) -> None:
    for again in (resolve, resolve_dpo):
        resolved = again(**asked)

        assert again(**resolved.model_dump(mode="json")) == resolved
