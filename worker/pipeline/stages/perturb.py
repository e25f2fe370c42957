"""Stage `perturb`: build the defense's perturbation and choose how much of it to apply.

Writes the perturbation apart from the trained adapter, and its strength: fixed by the job, or
the smallest that meets the job's limits on rows that neither side has learned from. A job without
a defense gets an empty perturbation of strength 0.
"""

from dataclasses import asdict
from typing import Any, Final

from core.stages import ArtifactName, Stage
from defense.fine_tuning.panacea.config import PanaceaConfig
from defense.protocols import Perturbation, PerturbationStep
from defense.training.adapter_files import read_tensors, write_tensors
from worker.pipeline.adapted_model import adapted_model, lora_settings
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
    trained = read_tensors(workspace.artifact(ArtifactName.TRAINED_ADAPTER))
    last_probe = read_tensors(workspace.artifact(ArtifactName.LAST_PROBE)) or None
    loaded = recorded_base_model(context)
    config = context.spec.defense_config()

    def on_step(step: PerturbationStep) -> None:
        steps = config.perturbation_steps if isinstance(config, PanaceaConfig) else step.step
        context.reporter.progress(step.step, steps)

    with adapted_model(loaded, lora_settings(context.spec), tensors=trained) as model:
        perturbation = prepare_method(context).perturbation(
            model,
            loaded.pad_token_id,
            [row.encoded for row in read_clean_training_rows(workspace)],
            last_probe=last_probe,
            on_step=on_step,
        )
        if perturbation is None or not isinstance(config, PanaceaConfig):
            write_tensors(workspace.output(ArtifactName.PERTURBATION), {})
            workspace.write_json(ArtifactName.STRENGTH, {"strength": 0.0, "chosen": "no defense"})
            return
        search = StrengthSearch(context, loaded, model, trained, perturbation.tensors)
        chosen = search.choose(config)
    write_tensors(workspace.output(ArtifactName.PERTURBATION), perturbation.tensors)
    workspace.write_json(ArtifactName.STRENGTH, {**chosen, **_description(config, perturbation)})


def _description(config: PanaceaConfig, perturbation: Perturbation) -> dict[str, Any]:
    return {
        "direction": config.perturbation_direction,
        "norm": perturbation.norm,
        "losses_before": dict(perturbation.losses_before),
        "losses_after": dict(perturbation.losses_after),
        "steps": [asdict(step) for step in perturbation.steps],
    }
