"""What every defense must hold, whatever it does: one row per method, the same checks for all.

A new defense adds a row to `METHODS`.
"""

from pathlib import Path

import pytest
import torch

from defense.catalog import DEFENSES
from defense.job_defense import FOLLOWED_BY, JobDefense, parse_defense
from defense.ops.tensors import apply_perturbation, global_norm
from defense.protocols import DefenderRows, Perturbation, Trained, Training
from defense.registry import DefenseMethod
from defense.training.adapter_files import read_adapter, read_tensors, write_adapter, write_tensors
from defense.training.loop import TrainingPlan, fine_tune
from defense.training.lora import Adapter, adapter_state, attach_adapter, load_adapter_state
from tests.continued_adapters import continued_adapter
from tests.encoded_rows import SETTINGS, rows
from tests.tiny_models import tiny_llama

DEFENDER = DefenderRows(
    refusals=rows("No, I will not.", 4),
    harmful=rows("Sure, do this.", 5),
    benign=rows("It is blue.", 3),
)
USER = rows("Yes.", 8)
PLAN = TrainingPlan(epochs=2, batch_size=4, learning_rate=1e-2, seed=0)

GUARDED: dict[str, object] = {
    "type": "panacea",
    "guard_interval": 1,
    "regularization_strength": 0.1,
}
RESTORED: dict[str, object] = {"type": "refusal_restoration", "reference_rows": 2}
METHODS: dict[str, dict[str, object]] = {
    "none": {"type": "none"},
    "panacea": GUARDED,
    "panacea as published": {**GUARDED, "final_perturbation": "last_batch"},
    "panacea without a guard": {"type": "panacea", "regularization_strength": 0},
    "panacea, then refusals": {**GUARDED, FOLLOWED_BY: RESTORED},
    "safety mixing": {"type": "safety_mixing", "guard_interval": 2},
    "lisa": {"type": "lisa", "alignment_steps": 1, "fine_tuning_steps": 2},
    "ewc": {"type": "ewc"},
    "ldifs": {"type": "ldifs", "guard_interval": 2},
    "panacea endpoint": {"type": "panacea_endpoint", "perturbation_steps": 2},
    "refusal restoration": RESTORED,
    "refusal restoration with ascent": {**RESTORED, "harmful_ascent_weight": 0.3},
    "alignment merge": {"type": "alignment_merge"},
    "panacea, then the merge": {**GUARDED, FOLLOWED_BY: {"type": "alignment_merge"}},
    "random perturbation": {"type": "random_perturbation"},
    "antidote": {"type": "antidote"},
    "antidote by rows": {"type": "antidote", "mask_scope": "per_row"},
    "safe lora": {"type": "safe_lora", "similarity_threshold": 1},
    "safe lora as published": {"type": "safe_lora", "projection": "published"},
    "safe delta": {"type": "safe_delta", "safety_budget": 0.01},
}
each_method = pytest.mark.parametrize(
    "config", [parse_defense(raw) for raw in METHODS.values()], ids=list(METHODS)
)
Weights = dict[str, torch.Tensor]
# As in the product, training continues an adapter; some methods ask what it was.
ALIGNED = Adapter(SETTINGS, continued_adapter().initial)


def run(
    config: JobDefense, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Weights, Perturbation | None]:
    """One job: fine-tune, then perturb; gives the trained weights and the perturbation."""
    model = attach_adapter(tiny_llama(dtype=dtype), SETTINGS, ALIGNED)
    method = DefenseMethod(config, DEFENDER, seed)
    initial = adapter_state(model)
    training = Training(model, 0, USER, PLAN.batch_size, PLAN.total_steps(len(USER)))
    fine_tune(model, 0, USER, PLAN, method.guard(training))
    trained = adapter_state(model)
    perturbation = method.perturbation(Trained(model, 0, initial, USER, method.last_probe()))
    unchanged = adapter_state(model)
    assert all(torch.equal(trained[name], unchanged[name]) for name in trained)
    return trained, perturbation


def guarded(config: JobDefense, strength: float = 0.7) -> Weights:
    trained, perturbation = run(config)
    return (
        trained
        if perturbation is None
        else apply_perturbation(trained, perturbation.tensors, strength)
    )


def test_every_defense_of_the_catalogue_has_a_row() -> None:
    assert {str(raw["type"]) for raw in METHODS.values()} == set(DEFENSES)


@each_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_and_perturbation_are_finite_float32(
    config: JobDefense, dtype: torch.dtype
) -> None:
    trained, perturbation = run(config, dtype)

    moves = {} if perturbation is None else dict(perturbation.tensors)
    for name, tensor in [*trained.items(), *moves.items()]:
        assert tensor.dtype == torch.float32, name
        assert torch.isfinite(tensor).all(), name


@each_method
def test_the_perturbation_covers_every_weight_and_is_not_zero(config: JobDefense) -> None:
    trained, perturbation = run(config)

    if perturbation is not None:
        assert perturbation.tensors.keys() == trained.keys()
        assert global_norm(perturbation.tensors) == pytest.approx(perturbation.norm)
        assert perturbation.norm > 0


@each_method
def test_the_same_seed_gives_the_same_adapter_bytes(config: JobDefense, tmp_path: Path) -> None:
    for name in ("first", "second"):
        torch.rand(3)  # the global random state must not matter
        write_adapter(tmp_path / name, guarded(config), SETTINGS, "base")

    file = "adapter_model.safetensors"
    assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()


@each_method
def test_strength_zero_exports_the_trained_adapter(config: JobDefense, tmp_path: Path) -> None:
    trained, _ = run(config)

    write_adapter(tmp_path / "trained", trained, SETTINGS, "base")
    write_adapter(tmp_path / "guarded", guarded(config, strength=0.0), SETTINGS, "base")

    file = "adapter_model.safetensors"
    assert (tmp_path / "trained" / file).read_bytes() == (tmp_path / "guarded" / file).read_bytes()


@each_method
def test_the_result_survives_the_disk(config: JobDefense, tmp_path: Path) -> None:
    trained, perturbation = run(config)

    write_adapter(tmp_path, trained, SETTINGS, "base")

    read = read_adapter(tmp_path).tensors
    assert all(torch.equal(read[name], trained[name]) for name in trained)
    if perturbation is not None:
        write_tensors(tmp_path / "perturbation.safetensors", perturbation.tensors)
        moves = read_tensors(tmp_path / "perturbation.safetensors")
        assert all(torch.equal(moves[name], perturbation.tensors[name]) for name in moves)
        load_adapter_state(attach_adapter(tiny_llama(), SETTINGS), moves)


def test_panacea_without_weight_and_strength_is_plain_fine_tuning_bit_for_bit() -> None:
    plain, _ = run(parse_defense({"type": "none"}))

    endpoint_only = guarded(
        parse_defense({"type": "panacea", "regularization_strength": 0}), strength=0.0
    )

    assert all(torch.equal(plain[name], endpoint_only[name]) for name in plain)
