"""Parts of a perturbation on the tiny model, where one layer does everything."""

import pytest
import torch
from torch import Tensor

from defense.errors import NoSupervisedTokensError
from defense.evaluation.layer_ablation import LayerTrial
from defense.evaluation.layer_affinity import layer_affinity
from defense.ops.layers import layer_of
from defense.ops.tensors import apply_perturbation
from defense.protocols import EncodedRow
from defense.training.lora import adapter_state, attach_adapter
from defense.training.loss import AdapterLoss
from tests.encoded_rows import SETTINGS, rows, unsupervised_row
from tests.tiny_models import tiny_llama

ROWS = {"harmful": rows("Sure, here."), "refusals": rows("I can't.", 4)}
STRENGTH = 0.5


def make_trial(*moved_layers: int) -> LayerTrial:
    """A new adapter, whose B is zero.

    Every A moves, which does nothing as long as B is zero; the B of these layers moves as well.
    """
    model = attach_adapter(tiny_llama(), SETTINGS).eval()
    trained = adapter_state(model)
    generator = torch.Generator().manual_seed(0)

    def move(name: str, weight: Tensor) -> Tensor:
        drawn = torch.randn(weight.shape, generator=generator)
        return drawn if "lora_A" in name or layer_of(name) in moved_layers else 0 * drawn

    perturbation = {name: move(name, weight) for name, weight in trained.items()}
    return LayerTrial(AdapterLoss(model, 0), trained, perturbation, STRENGTH, ROWS, seed=0)


def row_losses(trial: LayerTrial, kind: str, strength: float) -> list[float]:
    at = apply_perturbation(trial.trained, trial.perturbation, strength)
    return [trial.source.mean_loss([row], at) for row in ROWS[kind]]


def test_the_layer_that_does_everything_has_the_whole_effect_and_the_other_none() -> None:
    trial = make_trial(1)

    found = trial.measure()

    idle, busy = found.layers
    assert (idle.layer, busy.layer) == (0, 1)
    for kind, whole in found.kinds.items():
        assert whole.whole.value != 0
        for effect in (idle.added_first[kind], idle.added_last[kind]):
            assert (effect.value, effect.low, effect.high) == (0, 0, 0)
        assert busy.added_first[kind] == busy.added_last[kind] == whole.whole
    # By its norm alone, the perturbation lies in both layers.
    affinity = layer_affinity(trial.trained, trial.perturbation, STRENGTH, SETTINGS.scaling)
    assert affinity is not None
    assert affinity.layers[0].perturbation_share > 0.2
    assert [share.weight_change_share for share in affinity.layers] == [0.0, 1.0]


def test_effects_are_differences_of_the_rows_losses() -> None:
    trial = make_trial(0, 1)

    found = trial.measure()

    for kind, effect in found.kinds.items():
        trained, guarded = (row_losses(trial, kind, strength) for strength in (0.0, STRENGTH))
        count = len(ROWS[kind])
        assert effect.rows == count
        assert effect.loss_trained.value == pytest.approx(sum(trained) / count)
        assert effect.loss_guarded.value == pytest.approx(sum(guarded) / count)
        difference = (sum(guarded) - sum(trained)) / count
        assert effect.whole.value == pytest.approx(difference)
        # Of two layers, one alone is all but the other.
        first, last = found.layers
        assert first.added_first[kind].value + last.added_last[kind].value == pytest.approx(
            difference
        )
        assert first.added_first[kind].low < first.added_first[kind].high


def test_the_adapter_is_left_as_it_was_and_the_result_repeats() -> None:
    trial = make_trial(0, 1)
    before = adapter_state(trial.source.model)  # type: ignore[attr-defined]

    first, second = trial.measure(), trial.measure()

    assert first == second
    after = adapter_state(trial.source.model)  # type: ignore[attr-defined]
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_each_pass_is_told_of_and_counted_before() -> None:
    told: list[None] = []
    trial = make_trial(1)
    counting = LayerTrial(**{**vars(trial), "on_row": lambda: told.append(None)})

    counting.measure()

    # Two layers: six variants of the adapter, on ten rows.
    assert len(told) == counting.passes == 60


def test_rows_without_an_answer_are_left_out_and_no_others_are_an_error() -> None:
    def with_rows(*given: EncodedRow) -> LayerTrial:
        return LayerTrial(**{**vars(make_trial(1)), "rows": {"harmful": given}})

    found = with_rows(*ROWS["harmful"], unsupervised_row()).measure()

    assert found.kinds["harmful"].rows == 6
    with pytest.raises(NoSupervisedTokensError):
        with_rows(unsupervised_row()).measure()


def test_as_json_names_every_layer_kind_and_setting() -> None:
    found = make_trial(1).measure().as_json()

    assert (found["strength"], found["seed"], found["resamples"]) == (0.5, 0, 2000)
    assert [layer["layer"] for layer in found["layers"]] == [0, 1]
    assert set(found["layers"][0]["added_last"]["refusals"]) == {"value", "low", "high"}
    assert found["kinds"]["harmful"]["rows"] == 6
