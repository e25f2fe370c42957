"""Stage `perturb`: build the defense's perturbation and choose how much of it to apply.

Writes the perturbation apart from the trained adapter, and its strength: fixed by the job, or
the smallest that meets the job's limits on rows that neither side has learned from. A job without
a defense gets an empty perturbation of strength 0.
"""

import time
from dataclasses import asdict
from typing import Any, Final

from core.stages import ArtifactName, Stage
from defense.protocols import Perturbation, Trained
from defense.training.adapter_files import read_tensors, write_tensors
from defense.training.lora import adapter_state, load_adapter_state
from worker.pipeline.adapted_model import adapted_model, continued_adapter, lora_settings
from worker.pipeline.base_model import recorded_base_model
from worker.pipeline.defender_rows import prepare_method
from worker.pipeline.held_out import read_clean_training_rows
from worker.pipeline.strength_search import StrengthSearch
from worker.trainer_tools import TrainerContext

NAME: Final = Stage.PERTURB
READS: Final = (
    ArtifactName.TRAINING_ROWS,
    ArtifactName.VALIDATION_ROWS,
    ArtifactName.SCREENING,
    ArtifactName.BASE_MODEL,
    ArtifactName.TRAINED_ADAPTER,
    ArtifactName.LAST_PROBE,
)
WRITES: Final = (ArtifactName.PERTURBATION, ArtifactName.STRENGTH)


def run(context: TrainerContext) -> None:
    """Write the perturbation and its strength."""
    workspace = context.workspace
    began = time.monotonic()
    trained = read_tensors(workspace.artifact(ArtifactName.TRAINED_ADAPTER))
    last_probe = read_tensors(workspace.artifact(ArtifactName.LAST_PROBE)) or None
    loaded = recorded_base_model(context)
    defense = context.spec.job_defense()
    if defense.ending is None:
        write_tensors(workspace.output(ArtifactName.PERTURBATION), {})
        workspace.write_json(ArtifactName.STRENGTH, {"strength": 0.0, "chosen": "no defense"})
        return
    with adapted_model(
        loaded,
        lora_settings(context.spec),
        aligned=continued_adapter(context, loaded),
        seed=context.spec.seed,
    ) as model:
        initial = adapter_state(model)
        load_adapter_state(model, trained)
        perturbation = prepare_method(context).perturbation(
            Trained(
                model=model,
                pad_token_id=loaded.pad_token_id,
                initial=initial,
                task_rows=[row.encoded for row in read_clean_training_rows(workspace)],
                last_probe=last_probe,
                on_step=lambda step: context.reporter.progress(step.step, step.total_steps),
            )
        )
        assert perturbation is not None, "the job's defense has an ending"  # noqa: S101
        chosen: dict[str, Any] = {"strength": 1.0, "chosen": "what the method computes"}
        if defense.searched is not None:
            search = StrengthSearch(context, loaded, model, trained, perturbation.tensors)
            chosen = search.choose(defense.searched)
    write_tensors(workspace.output(ArtifactName.PERTURBATION), perturbation.tensors)
    method = defense.ending.model_dump()["type"]
    seconds = round(time.monotonic() - began, 3)
    description = _description(method, perturbation)
    workspace.write_json(ArtifactName.STRENGTH, {**chosen, **description, "seconds": seconds})


def _description(method: str, perturbation: Perturbation) -> dict[str, Any]:
    return {
        "method": method,
        "norm": perturbation.norm,
        "losses_before": dict(perturbation.losses_before),
        "losses_after": dict(perturbation.losses_after),
        "steps": [asdict(step) for step in perturbation.steps],
        "figures": dict(perturbation.figures),
    }
