"""The alignment merge against a regression of its own in NumPy, layer by layer, in float64."""

import numpy as np

from defense.ops.tensors import added
from defense.post_fine_tuning.alignment_merge.config import AlignmentMergeConfig
from defense.post_fine_tuning.alignment_merge.method import build_ending
from defense.protocols import IGNORED, DefenderRows, EncodedRow, Trained
from defense.training.lora import adapter_state, load_adapter_state
from tests.numerics.layered_model import (
    LAYERS,
    SETTINGS,
    Array,
    ByHand,
    Vectors,
    layered_model,
    short,
)

TASK = [EncodedRow((6, 1, 4), (IGNORED, 1, 4)), EncodedRow((2, 6), (IGNORED, 6))]
REFUSALS = [EncodedRow((3, 5, 1, 2), (IGNORED, IGNORED, 1, 2)), EncodedRow((4, 0), (IGNORED, 0))]
MU, DAMPING, ANSWER = 3.0, 0.05, 2.0
SCALING = SETTINGS.scaling


class SideByHand:
    """Rows on their way through two models: as it was, and as it is being merged."""

    def __init__(
        self, was: ByHand, weights: Vectors, rows: list[EncodedRow], counts: float
    ) -> None:
        self.model, self.weights, self.counts = was, weights, counts
        tokens = np.concatenate([row.input_ids for row in rows])
        labels = np.concatenate([[*row.labels[1:], IGNORED] for row in rows])
        self.tokens = np.where(labels == IGNORED, 1.0, ANSWER)
        self.was = self.merged = was.embedding[tokens]

    def equations(self, name: str, x: Array, y: Array) -> tuple[Array, Array]:
        """Of `|W x + s P x - y|^2` over tokens, with the damping towards this side's product."""
        product = self.weights[f"{name}.B"] @ self.weights[f"{name}.A"]
        frozen = self.model.weight(name) - SCALING * product
        counted = (x * self.tokens[:, None]).T
        gram = counted @ x
        scale = np.trace(gram) / len(gram)
        wanted = (counted @ (y - x @ frozen.T)).T / SCALING
        damped = self.counts * (gram / scale + DAMPING * np.eye(len(gram)))
        return damped, self.counts * (wanted / scale + DAMPING * product)


def best_of_rank(gram: Array, wanted: Array) -> Array:
    # The symmetric root of the Gram matrix, where the method takes Cholesky's.
    sizes, turns = np.linalg.eigh(gram)
    root = turns @ np.diag(np.sqrt(sizes)) @ turns.T
    u, kept, vh = np.linalg.svd(np.linalg.solve(gram, wanted.T).T @ root)
    rank = SETTINGS.rank
    cut: Array = (u[:, :rank] * kept[:rank]) @ vh[:rank] @ np.linalg.inv(root)
    return cut


def test_every_layer_is_the_regression_that_numpy_finds_at_the_inputs_merged_so_far() -> None:
    initial = adapter_state(layered_model(seed=1))
    model = layered_model(seed=2).eval()
    weights = adapter_state(model)
    config = AlignmentMergeConfig(
        alignment_weight=MU, benign_rows=0, damping_ratio=DAMPING, answer_weight=ANSWER
    )

    move = build_ending(config, DefenderRows(REFUSALS, (), ()), Trained(model, 0, initial, TASK), 0)

    found = {short(name): tensor.numpy() for name, tensor in added(weights, move.tensors).items()}
    by_name = [{short(name): t.numpy() for name, t in each.items()} for each in (weights, initial)]
    user, operator = (
        SideByHand(ByHand(model, vectors), vectors, rows, counts)
        for vectors, rows, counts in zip(by_name, (TASK, REFUSALS), (1.0, MU), strict=True)
    )
    load_adapter_state(model, added(weights, move.tensors))
    merged = ByHand(model, found)
    for index in range(LAYERS):
        equations: dict[str, list[tuple[Array, Array]]] = {"self_attn": [], "mlp": []}
        for side in (user, operator):
            attention, mlp = (side.model.weight(f"{index}.{part}") for part in equations)
            expected = side.was @ attention.T
            within = np.tanh(side.merged @ attention.T)
            side.was = np.tanh(expected) @ mlp.T
            equations["self_attn"].append(
                side.equations(f"{index}.self_attn", side.merged, expected)
            )
            equations["mlp"].append(side.equations(f"{index}.mlp", within, side.was))
            hidden = np.tanh(side.merged @ merged.weight(f"{index}.self_attn").T)
            side.merged = hidden @ merged.weight(f"{index}.mlp").T
        for part, known in equations.items():
            best = best_of_rank(*(np.sum(each, axis=0) for each in zip(*known, strict=True)))
            name = f"{index}.{part}"
            product = found[f"{name}.B"] @ found[f"{name}.A"]
            np.testing.assert_allclose(product, best, rtol=1e-4, atol=1e-5, err_msg=name)
