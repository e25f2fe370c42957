"""The report's section on the layers of a perturbation."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch

from core.stages import ArtifactName
from defense.training.adapter_files import write_tensors
from defense.training.lora import LoraSettings
from worker.pipeline.perturbed_layers import perturbed_layers
from worker.workspace import Workspace

MODULE = "base_model.model.model.layers.{}.self_attn.q_proj"
SETTINGS = LoraSettings(rank=1, alpha=2.0, target_modules=("q_proj",))


def weights(*b: float) -> dict[str, torch.Tensor]:
    """For each layer one module with A = 1 and this B."""
    pairs: dict[str, torch.Tensor] = {}
    for layer, value in enumerate(b):
        pairs[f"{MODULE.format(layer)}.lora_A.weight"] = torch.tensor([[1.0]])
        pairs[f"{MODULE.format(layer)}.lora_B.weight"] = torch.tensor([[value]])
    return pairs


def workspace_with(
    folder: Path, perturbation: Mapping[str, torch.Tensor], strength: float
) -> Workspace:
    workspace = Workspace.create(folder, "ftjob-1", 1)
    write_tensors(workspace.artifact(ArtifactName.TRAINED_ADAPTER), weights(0.0, 0.0))
    write_tensors(workspace.artifact(ArtifactName.PERTURBATION), perturbation)
    content = json.dumps({"strength": strength})
    workspace.artifact(ArtifactName.STRENGTH).write_text(content, encoding="utf-8")
    return workspace


def test_the_shares_are_of_the_strength_and_scaling_that_are_delivered(tmp_path: Path) -> None:
    move = {
        name: 0 * tensor if "lora_A" in name else tensor for name, tensor in weights(3, 4).items()
    }

    found = perturbed_layers(workspace_with(tmp_path, move, 0.5), SETTINGS)

    # Only B moves: half of 3 and half of 4, each twice.
    assert found == {
        "strength": 0.5,
        "perturbation_norm": 5.0,
        "weight_change_norm": 5.0,
        "layers": [
            {
                "layer": layer,
                "adapter_weights": 2,
                "perturbation_share": share,
                "weight_change_share": share,
            }
            for layer, share in enumerate((9 / 25, 16 / 25))
        ],
    }


def test_a_job_without_a_perturbation_has_no_such_section(tmp_path: Path) -> None:
    assert perturbed_layers(workspace_with(tmp_path, {}, 0.0), SETTINGS) is None
