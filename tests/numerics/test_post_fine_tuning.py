"""Post-fine-tuning methods against computations of their own in float64."""

import math
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from defense.ops.tensors import added
from defense.post_fine_tuning.antidote.config import AntidoteConfig
from defense.post_fine_tuning.antidote.method import build_ending as build_antidote
from defense.post_fine_tuning.random_perturbation.method import standard_noise
from defense.post_fine_tuning.safe_delta.config import SafeDeltaConfig
from defense.post_fine_tuning.safe_delta.method import build_ending as build_safe_delta
from defense.post_fine_tuning.safe_lora.config import SafeLoraConfig
from defense.post_fine_tuning.safe_lora.method import build_ending as build_safe_lora
from defense.protocols import IGNORED, DefenderRows, EncodedRow, Tensors, Trained
from defense.training.lora import LoraSettings, adapter_state, attach_adapter, load_adapter_state
from tests.two_layer_model import TwoLayerModel

Vectors = dict[str, npt.NDArray[np.float64]]

SETTINGS = LoraSettings(rank=2, alpha=3, target_modules=("first", "second"))
FIRST, SECOND = "base_model.model.first", "base_model.model.second"
HARMFUL = [EncodedRow((6, 1, 4), (IGNORED, 1, 4)), EncodedRow((2, 6), (IGNORED, 6))]
REFUSALS = [EncodedRow((3, 5, 1, 2), (IGNORED, 5, 1, 2)), EncodedRow((4, 0), (IGNORED, 0))]
DEFENDER = DefenderRows(refusals=REFUSALS, harmful=HARMFUL, benign=())


def two_layer_adapter() -> tuple[Trained, Tensors]:
    """A trained adapter that continues another one, and that other one, all in float64."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = attach_adapter(cast("PreTrainedModel", TwoLayerModel()), SETTINGS).double().eval()
    initial, weights = (
        {
            name: torch.randn(tensor.shape, generator=generator, dtype=torch.float64) / 2
            for name, tensor in adapter_state(model).items()
        }
        for _ in range(2)
    )
    load_adapter_state(model, weights)
    return Trained(model, 0, initial, ()), initial


def delta(weights: Tensors, layer: str) -> npt.NDArray[np.float64]:
    a, b = (weights[f"{layer}.lora_{side}.weight"].numpy() for side in "AB")
    return cast("npt.NDArray[np.float64]", SETTINGS.scaling * (b @ a))


def frozen(trained: Trained) -> Vectors:
    base = cast("Any", trained.model.get_base_model())
    return {
        FIRST: base.first.base_layer.weight.detach().numpy(),
        SECOND: base.second.base_layer.weight.detach().numpy(),
        "embedding": base.embedding.weight.detach().numpy(),
    }


def inputs_by_hand(
    trained: Trained, weights: Vectors, rows: list[EncodedRow] = HARMFUL
) -> list[Vectors]:
    """Tokens by features of what goes into each map, for each row."""
    kept = frozen(trained)
    found = []
    for row in rows:
        x = kept["embedding"][list(row.input_ids)]
        seen: Vectors = {}
        for layer in (FIRST, SECOND):
            a, b = weights[f"{layer}.lora_A.weight"], weights[f"{layer}.lora_B.weight"]
            seen[f"{layer}.lora_A.weight"] = x
            seen[f"{layer}.lora_B.weight"] = x @ a.T
            x = np.tanh(x @ kept[layer].T + SETTINGS.scaling * x @ a.T @ b.T)
        found.append(seen)
    return found


def test_random_noise_is_distributed_as_the_normal_law_says() -> None:
    # Kolmogorov and Smirnov's distance to the law; 1.95 / sqrt(n) is passed once in a thousand.
    count = 20_000
    noise = standard_noise({"w": torch.zeros(count, dtype=torch.float64)}, seed=0)["w"]

    law = [(1 + math.erf(value / math.sqrt(2))) / 2 for value in sorted(noise.tolist())]

    distance = max(abs((rank + 0.5) / count - expected) for rank, expected in enumerate(law))
    assert distance < 1.95 / math.sqrt(count)


def test_antidote_takes_back_what_numpy_scores_highest() -> None:
    trained, initial = two_layer_adapter()
    weights = {name: tensor.numpy() for name, tensor in adapter_state(trained.model).items()}

    move = build_antidote(AntidoteConfig(mask_ratio=0.3), DEFENDER, trained, seed=0)

    inputs = inputs_by_hand(trained, weights)
    score = {
        name: np.abs(weights[name] - initial[name].numpy())
        * np.sqrt(np.mean([(of_row[name] ** 2).sum(axis=0) for of_row in inputs], axis=0))
        for name in weights
    }
    ordered = np.sort(np.concatenate([values.ravel() for values in score.values()]))
    cut = ordered[-round(0.3 * len(ordered))]
    for name, values in score.items():
        expected = np.where(values >= cut, initial[name].numpy() - weights[name], 0.0)
        np.testing.assert_allclose(move.tensors[name].numpy(), expected, rtol=1e-12)


def test_safe_lora_delivers_the_projection_that_numpys_pseudo_inverse_gives() -> None:
    trained, initial = two_layer_adapter()
    weights = adapter_state(trained.model)

    move = build_safe_lora(SafeLoraConfig(similarity_threshold=1), DEFENDER, trained, seed=0)

    guarded = added(weights, move.tensors)
    cosines = []
    for layer in (FIRST, SECOND):
        alignment = delta(initial, layer)
        change = delta(weights, layer) - alignment
        projected = alignment @ np.linalg.pinv(alignment) @ change
        np.testing.assert_allclose(delta(guarded, layer), alignment + projected, atol=1e-12)
        cosines.append(np.vdot(projected, change) / np.linalg.norm(projected))
        cosines[-1] /= np.linalg.norm(change)
    np.testing.assert_allclose(move.figures["lowest_similarity"], min(cosines))


def test_safe_delta_delivers_what_numpy_accepts_and_compensates_entry_by_entry() -> None:
    trained, initial = two_layer_adapter()
    weights = adapter_state(trained.model)
    budget, damping = 8.0, 0.05

    config = SafeDeltaConfig(safety_budget=budget, damping_ratio=damping)
    move = build_safe_delta(config, DEFENDER, trained, seed=0)

    guarded = added(weights, move.tensors)
    inputs = inputs_by_hand(
        trained, {name: tensor.numpy() for name, tensor in initial.items()}, REFUSALS
    )
    for layer in (FIRST, SECOND):
        read = np.concatenate([of_row[f"{layer}.lora_A.weight"] for of_row in inputs])
        hessian = 2 * read.T @ read / len(REFUSALS)
        hessian += damping * np.mean(np.diag(hessian)) * np.eye(len(hessian))
        change = delta(weights, layer) - delta(initial, layer)
        accepted = accepted_by_hand(change, hessian, budget)
        assert 0 < len(accepted) < len(hessian)
        whole = delta(initial, layer) + constrained_minimum(change, hessian, accepted)
        u, sizes, vh = np.linalg.svd(whole)
        rank = SETTINGS.rank
        best = u[:, :rank] * sizes[:rank] @ vh[:rank]
        np.testing.assert_allclose(delta(guarded, layer), best, atol=1e-10)


def accepted_by_hand(
    change: npt.NDArray[np.float64], hessian: npt.NDArray[np.float64], budget: float
) -> list[int]:
    inverse = np.linalg.inv(hessian)
    left = budget * float(np.mean([1 / (2 * inverse[m, m]) for m in range(len(inverse))]))
    accepted = []
    for feature in sorted(range(len(inverse)), key=lambda m: -float(inverse[m, m])):
        left -= float(
            sum(entry**2 / (2 * inverse[feature, feature]) for entry in change[:, feature])
        )
        if left < 0:
            break
        accepted.append(feature)
    return accepted


def constrained_minimum(
    change: npt.NDArray[np.float64], hessian: npt.NDArray[np.float64], accepted: list[int]
) -> npt.NDArray[np.float64]:
    """Row by row the minimum of `d H d` with the accepted entries fixed, by its Lagrangian."""
    features, count = len(hessian), len(accepted)
    fixed = np.eye(features)[accepted]
    system = np.block([[2 * hessian, fixed.T], [fixed, np.zeros((count, count))]])
    return np.stack(
        [
            np.linalg.solve(system, np.concatenate([np.zeros(features), row[accepted]]))[:features]
            for row in change
        ]
    )
