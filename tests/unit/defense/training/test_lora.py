import pytest
import torch

from defense.errors import InvalidConfigError
from defense.training.lora import (
    Adapter,
    LoraSettings,
    adapter_state,
    attach_adapter,
    detach_adapter,
    load_adapter_state,
)
from tests.tiny_models import TARGET_MODULES, tiny_llama

SMALL = LoraSettings(rank=2, alpha=4, target_modules=("q_proj", "v_proj"))
TOKENS = torch.tensor([[5, 9, 11, 7]])


def aligned_adapter(settings: LoraSettings = SMALL) -> Adapter:
    model = attach_adapter(tiny_llama(), settings)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(tensor.shape, generator=generator) / 4
        for name, tensor in adapter_state(model).items()
    }
    return Adapter(settings, weights)


def logits(settings: LoraSettings, aligned: Adapter | None) -> torch.Tensor:
    model = attach_adapter(tiny_llama(), settings, aligned).eval()
    with torch.no_grad():
        return torch.as_tensor(model(input_ids=TOKENS).logits)


def test_a_new_adapter_changes_nothing_yet() -> None:
    with torch.no_grad():
        base = tiny_llama()(input_ids=TOKENS).logits

    assert torch.equal(logits(SMALL, None), base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_adapter_is_float32_whatever_the_base(dtype: torch.dtype) -> None:
    model = attach_adapter(tiny_llama(dtype=dtype), SMALL)

    assert {tensor.dtype for tensor in adapter_state(model).values()} == {torch.float32}


@pytest.mark.parametrize(
    "larger",
    [
        LoraSettings(rank=4, alpha=8, target_modules=("q_proj", "v_proj")),
        LoraSettings(rank=2, alpha=4, target_modules=TARGET_MODULES),
        LoraSettings(rank=8, alpha=8, target_modules=(*TARGET_MODULES, "up_proj")),
        LoraSettings(rank=2, alpha=16, target_modules=("q_proj", "v_proj")),
    ],
)
def test_an_aligned_adapter_keeps_its_function_inside_a_larger_shape(larger: LoraSettings) -> None:
    aligned = aligned_adapter()

    difference = (logits(larger, aligned) - logits(SMALL, aligned)).abs().max()

    assert difference < 1e-6


def test_the_same_shape_continues_the_very_same_weights() -> None:
    aligned = aligned_adapter()

    model = attach_adapter(tiny_llama(), SMALL, aligned)

    assert all(torch.equal(adapter_state(model)[n], t) for n, t in aligned.tensors.items())


def test_the_new_part_of_a_larger_shape_can_learn() -> None:
    larger = LoraSettings(rank=4, alpha=8, target_modules=TARGET_MODULES)

    weights = adapter_state(attach_adapter(tiny_llama(), larger, aligned_adapter()))

    for name, tensor in weights.items():
        if ".lora_A." in name:
            assert (tensor[2:].abs().sum(dim=1) > 0).all(), name


@pytest.mark.parametrize(
    ("settings", "param"),
    [
        (LoraSettings(1, 2, ("q_proj", "v_proj")), "lora_rank"),
        (LoraSettings(2, 4, ("q_proj",)), "target_modules"),
        (LoraSettings(2, 4, ("q_proj", "v_proj", "no_such_module")), None),
        (LoraSettings(2, 4, ("no_such_module",)), "target_modules"),
    ],
)
def test_a_shape_that_cannot_hold_the_aligned_adapter_is_refused(
    settings: LoraSettings, param: str | None
) -> None:
    aligned = aligned_adapter()
    if param is None:  # PEFT accepts a list of which one name matches
        attach_adapter(tiny_llama(), settings, aligned)
        return

    with pytest.raises(InvalidConfigError) as caught:
        attach_adapter(tiny_llama(), settings, aligned)

    assert caught.value.param == param


def test_a_target_the_model_lacks_is_refused() -> None:
    with pytest.raises(InvalidConfigError) as caught:
        attach_adapter(tiny_llama(), LoraSettings(2, 4, ("no_such_module",)))

    assert caught.value.param == "target_modules"


def test_an_adapter_of_another_model_is_refused() -> None:
    aligned = aligned_adapter()
    cut = {name: tensor[..., :1] for name, tensor in aligned.tensors.items()}

    with pytest.raises(InvalidConfigError, match="shape"):
        attach_adapter(tiny_llama(), SMALL, Adapter(SMALL, cut))


def test_the_random_part_comes_from_the_seed_alone() -> None:
    first = adapter_state(attach_adapter(tiny_llama(), SMALL, seed=1))
    torch.rand(3)
    second = adapter_state(attach_adapter(tiny_llama(), SMALL, seed=1))
    other = adapter_state(attach_adapter(tiny_llama(), SMALL, seed=2))

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_detached_model_is_the_base_again_and_can_be_wrapped_again() -> None:
    base = tiny_llama()
    with torch.no_grad():
        expected = base(input_ids=TOKENS).logits
    model = attach_adapter(base, SMALL, aligned_adapter())

    detached = detach_adapter(model)

    with torch.no_grad():
        assert torch.equal(detached(input_ids=TOKENS).logits, expected)
    attach_adapter(detached, SMALL)  # type: ignore[arg-type]


def test_weights_of_another_shape_are_not_loaded() -> None:
    model = attach_adapter(tiny_llama(), SMALL)

    with pytest.raises(InvalidConfigError, match="match"):
        load_adapter_state(model, {})
