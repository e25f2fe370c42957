"""Embeddings are written by hand, so that the first layer's inputs are known."""

from typing import cast

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from defense.ops.layer_inputs import input_grams, read_inputs, squared_input_norms
from defense.protocols import IGNORED, EncodedRow
from defense.training.lora import LoraSettings, attach_adapter
from defense.training.loss import AdapterLoss
from tests.two_layer_model import TwoLayerModel

ROWS = [EncodedRow((1, 2, 3), (IGNORED, IGNORED, 3)), EncodedRow((2, 2), (IGNORED, 2))]


def adapted() -> PeftModel:
    two_layers = TwoLayerModel()
    with torch.no_grad():
        two_layers.embedding.weight.zero_()
        two_layers.embedding.weight[1] = torch.tensor([1.0, 0, 0, 0, 2])
        two_layers.embedding.weight[2] = torch.tensor([0.0, 3, 0, 0, 0])
        two_layers.embedding.weight[3] = torch.tensor([0.0, 0, 0, 1, 1])
    settings = LoraSettings(rank=2, alpha=2, target_modules=("first",))
    return attach_adapter(cast("PreTrainedModel", two_layers), settings).eval()


def first_map(model: PeftModel) -> torch.nn.Module:
    return model.get_submodule("base_model.model.first.lora_A.default")


def test_prompt_and_answer_tokens_of_all_rows_are_read_without_padding() -> None:
    model, seen = adapted(), []

    def note(name: str, inputs: Tensor) -> None:
        seen.append((name, inputs.tolist()))

    read_inputs(AdapterLoss(model, 0), {"a": first_map(model)}, ROWS, note)

    one, two, three = [1, 0, 0, 0, 2], [0, 3, 0, 0, 0], [0, 0, 0, 1, 1]
    assert seen == [("a", [two, two, one, two, three])]


def test_squares_are_summed_over_tokens_and_averaged_over_rows() -> None:
    model = adapted()

    squares, _ = squared_input_norms(AdapterLoss(model, 0), {"a": first_map(model)}, ROWS)

    # Row 1: 1, 9, 0, 1, 4 + 1. Row 2: 9 + 9 in the second feature.
    assert squares["a"].tolist() == [0.5, 13.5, 0.0, 0.5, 2.5]


def test_grams_are_summed_over_tokens_and_averaged_over_rows() -> None:
    model = adapted()

    grams = input_grams(AdapterLoss(model, 0), {"a": first_map(model)}, ROWS)

    assert grams["a"].diagonal().tolist() == [0.5, 13.5, 0.0, 0.5, 2.5]
    # Features 1 and 5 meet in the first token of row 1, 4 and 5 in its third.
    assert grams["a"][0].tolist() == [0.5, 0, 0, 0, 1]
    assert grams["a"][4].tolist() == [1, 0, 0, 0.5, 2.5]


def test_the_loss_is_that_of_all_rows_together() -> None:
    model = adapted()
    source = AdapterLoss(model, 0)

    _, loss = squared_input_norms(source, {"a": first_map(model)}, ROWS)

    assert loss == pytest.approx(source.mean_loss(ROWS))


def test_inputs_are_those_at_the_weights_asked_for() -> None:
    model, seen = adapted(), []
    source = AdapterLoss(model, 0)
    second = model.get_submodule("base_model.model.first.lora_B.default")
    ones = {name: torch.ones_like(weight) for name, weight in source.weights().items()}

    read_inputs(source, {"b": second}, ROWS[1:], lambda _, inputs: seen.append(inputs), ones)

    assert [inputs.tolist() for inputs in seen] == [[[3, 3], [3, 3]]]


def test_nothing_watches_the_model_after_an_error() -> None:
    model = adapted()

    def fail(*_: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        read_inputs(AdapterLoss(model, 0), {"a": first_map(model)}, ROWS, fail)

    assert not first_map(model)._forward_pre_hooks
