"""Stage `package`: make the PEFT folder that is judged and, perhaps, handed out.

The guarded adapter is the trained one plus strength times the perturbation. Besides the folder,
the stage writes the logits of the guarded model in memory on a few prompts; `verify_archive`
compares them with those of the archive.
"""

import shutil
from typing import Final

import torch
from peft import PeftModel
from safetensors.torch import save_file
from torch import Tensor

from core.stages import ArtifactName, Stage
from defense.fine_tuning.panacea.perturbation import apply_perturbation
from defense.protocols import Message
from defense.training.adapter_files import read_tensors, write_adapter
from defense.training.chat import encode_prompt
from worker.archive import write_archive
from worker.base_models import LoadedModel
from worker.pipeline.adapted_model import adapted_model, lora_settings
from worker.row_sources import read_rows, spread
from worker.trainer_tools import TrainerContext

NAME: Final = Stage.PACKAGE
READS: Final = (ArtifactName.TRAINED_ADAPTER, ArtifactName.PERTURBATION, ArtifactName.STRENGTH)
WRITES: Final = (ArtifactName.PACKAGE, ArtifactName.PROBE_LOGITS)

PROBE_PROMPTS: Final = 4


def run(context: TrainerContext) -> None:
    """Write the package and the logits that it must reproduce."""
    workspace = context.workspace
    trained = read_tensors(workspace.artifact(ArtifactName.TRAINED_ADAPTER))
    perturbation = read_tensors(workspace.artifact(ArtifactName.PERTURBATION))
    strength = float(workspace.read_json(ArtifactName.STRENGTH)["strength"])
    guarded = apply_perturbation(trained, perturbation, strength)
    settings = lora_settings(context.spec)
    loaded = context.tools.base_models.warm(context.entry)
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


def probe_prompts(context: TrainerContext, loaded: LoadedModel) -> list[list[int]]:
    """Tokenise a few prompts, harmful and harmless."""
    options = context.tools.options
    sources = (options.safety_evaluation_prompts, options.benign_rows)
    return [
        encode_prompt((Message("user", row.prompt),), loaded.tokenizer, loaded.chat_template)
        for source in sources
        for row in spread(read_rows(source, with_response=False), PROBE_PROMPTS)
    ]


@torch.no_grad()
def last_logits(model: PeftModel, prompts: list[list[int]]) -> Tensor:
    """Give the logits behind the last token of each prompt, one prompt at a time."""
    device = next(model.parameters()).device
    rows = [
        model(input_ids=torch.tensor([ids], device=device)).logits[0, -1].float().cpu()
        for ids in prompts
    ]
    return torch.stack(rows)
