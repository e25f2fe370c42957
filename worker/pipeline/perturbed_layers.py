"""In which layers the perturbation of a job lies: a section of its report."""

from typing import Any

from core.stages import ArtifactName
from defense.evaluation.layer_affinity import layer_affinity
from defense.training.adapter_files import read_tensors
from defense.training.lora import LoraSettings
from worker.workspace import Workspace


def perturbed_layers(workspace: Workspace, settings: LoraSettings) -> dict[str, Any] | None:
    """Share the perturbation out among the layers; None for a job that has none.

    Args:
        workspace: Holds the trained adapter, the perturbation and its strength.
        settings: Shape of the adapter.
    """
    affinity = layer_affinity(
        read_tensors(workspace.artifact(ArtifactName.TRAINED_ADAPTER)),
        read_tensors(workspace.artifact(ArtifactName.PERTURBATION)),
        float(workspace.read_json(ArtifactName.STRENGTH)["strength"]),
        settings.scaling,
    )
    return None if affinity is None else affinity.as_json()
