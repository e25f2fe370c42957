import pytest
import torch

from defense.ops.layers import Layer, all_but_layer, layer_of, layers_of, only_layer
from defense.ops.tensors import added

FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
TENTH = "base_model.model.model.layers.10.mlp.up_proj.lora_B.weight"
HEAD = "base_model.model.lm_head.lora_A.weight"


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        (FIRST, 0),
        (TENTH, 10),
        ("base_model.model.transformer.h.3.attn.c_attn.lora_A.weight", 3),
        ("base_model.model.model.layers.7.mlp.experts.2.w1.lora_B.weight", 7),
        (HEAD, None),
    ],
)
def test_the_first_number_of_a_name_is_its_layer(name: str, layer: Layer) -> None:
    assert layer_of(name) == layer


def test_layers_are_ordered_by_number_and_what_lies_outside_comes_last() -> None:
    second = FIRST.replace(".0.", ".2.")

    assert layers_of([HEAD, TENTH, second, FIRST, TENTH]) == [0, 2, 10, None]


def test_a_vector_is_its_part_in_a_layer_and_the_rest() -> None:
    vector = {name: torch.tensor([float(index + 1)]) for index, name in enumerate([FIRST, HEAD])}

    part, rest = only_layer(vector, 0), all_but_layer(vector, 0)

    assert {name: tensor.item() for name, tensor in part.items()} == {FIRST: 1.0, HEAD: 0.0}
    assert {name: tensor.item() for name, tensor in rest.items()} == {FIRST: 0.0, HEAD: 2.0}
    assert added(part, rest) == vector
