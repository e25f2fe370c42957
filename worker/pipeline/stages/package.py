"""Stage `package`: make the PEFT folder that is judged and, perhaps, handed out.

Besides the folder, the stage writes the logits of the guarded model in memory on a few prompts;
`verify_archive` compares them with those of the archive. It also writes for the report in which
layers the perturbation lies, at the strength that is packaged.
"""

import shutil
from typing import Final

from core.stages import ArtifactName, Stage
from defense.training.adapter_files import write_adapter
from worker.archive import write_archive
from worker.pipeline.adapted_model import adapted_model, guarded_tensors, lora_settings
from worker.pipeline.base_model import recorded_base_model
from worker.pipeline.perturbed_layers import perturbed_layers
from worker.pipeline.probe import probe_prompts, take_probe
from worker.trainer_tools import TrainerContext

NAME: Final = Stage.PACKAGE
READS: Final = (
    ArtifactName.BASE_MODEL,
    ArtifactName.TRAINED_ADAPTER,
    ArtifactName.PERTURBATION,
    ArtifactName.STRENGTH,
)
WRITES: Final = (
    ArtifactName.PACKAGE,
    ArtifactName.PROBE_LOGITS,
    ArtifactName.LAYER_AFFINITY,
)


def run(context: TrainerContext) -> None:
    """Write the package, the logits that it must reproduce, and where the perturbation lies."""
    workspace = context.workspace
    guarded = guarded_tensors(workspace)
    settings = lora_settings(context.spec)
    loaded = recorded_base_model(context)
    prompts = probe_prompts(context, loaded)
    with adapted_model(loaded, settings, tensors=guarded) as model:
        take_probe(model, prompts).write(workspace.output(ArtifactName.PROBE_LOGITS))
    folder = workspace.root / "package"
    write_adapter(folder, guarded, settings, context.entry.id)
    write_archive(
        workspace.output(ArtifactName.PACKAGE), {path.name: path for path in folder.iterdir()}
    )
    shutil.rmtree(folder)
    workspace.write_json(
        ArtifactName.LAYER_AFFINITY, {"layer_affinity": perturbed_layers(workspace, settings)}
    )
