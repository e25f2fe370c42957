"""Stage `package`: make the PEFT folder that is judged and, perhaps, handed out.

The guarded adapter is the trained one plus strength times the perturbation. Besides the folder,
the stage writes the logits of the guarded model in memory on a few prompts; `verify_archive`
compares them with those of the archive.
"""

import shutil
from typing import Final

import torch
from safetensors.torch import save_file

from core.stages import ArtifactName, Stage
from defense.fine_tuning.panacea.perturbation import apply_perturbation
from defense.training.adapter_files import read_tensors, write_adapter
from worker.archive import write_archive
from worker.pipeline.adapted_model import adapted_model, lora_settings
from worker.pipeline.base_model import recorded_base_model
from worker.pipeline.probe import last_logits, probe_prompts
from worker.trainer_tools import TrainerContext

NAME: Final = Stage.PACKAGE
READS: Final = (
    ArtifactName.BASE_MODEL,
    ArtifactName.TRAINED_ADAPTER,
    ArtifactName.PERTURBATION,
    ArtifactName.STRENGTH,
)
WRITES: Final = (ArtifactName.PACKAGE, ArtifactName.PROBE_LOGITS)


def run(context: TrainerContext) -> None:
    """Write the package and the logits that it must reproduce."""
    workspace = context.workspace
    trained = read_tensors(workspace.artifact(ArtifactName.TRAINED_ADAPTER))
    perturbation = read_tensors(workspace.artifact(ArtifactName.PERTURBATION))
    strength = float(workspace.read_json(ArtifactName.STRENGTH)["strength"])
    guarded = apply_perturbation(trained, perturbation, strength)
    settings = lora_settings(context.spec)
    loaded = recorded_base_model(context)
    prompts = probe_prompts(context, loaded)
    with adapted_model(loaded, settings, tensors=guarded) as model:
        logits = last_logits(model, prompts)
    saved = {f"prompt_{index}": torch.tensor(ids) for index, ids in enumerate(prompts)}
    save_file({**saved, "logits": logits}, workspace.output(ArtifactName.PROBE_LOGITS))
    folder = workspace.root / "package"
    write_adapter(folder, guarded, settings, context.entry.id)
    write_archive(
        workspace.output(ArtifactName.PACKAGE), {path.name: path for path in folder.iterdir()}
    )
    shutil.rmtree(folder)
