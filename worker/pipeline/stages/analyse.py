"""Stage `analyse`: make the costly parts of the report that a follow-up job asks for.

They are about the adapter as it is packaged: the trained weights and the perturbation at its
strength. They change neither, and the gate does not count them.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from core.analyses import Analysis
from core.stages import ArtifactName, Stage
from defense.training.adapter_files import read_tensors
from worker.pipeline import analyses
from worker.pipeline.adapted_model import adapted_model, lora_settings
from worker.pipeline.analyses import GuardedModel
from worker.pipeline.base_model import recorded_base_model
from worker.trainer_tools import TrainerContext

NAME: Final = Stage.ANALYSE
READS: Final = (
    ArtifactName.BASE_MODEL,
    ArtifactName.TRAINED_ADAPTER,
    ArtifactName.PERTURBATION,
    ArtifactName.STRENGTH,
)
WRITES: Final = (ArtifactName.ANALYSES,)

# The part of the report that each analysis gives, and what makes it.
_SECTIONS: Final[
    Mapping[Analysis, tuple[str, Callable[[TrainerContext, GuardedModel], dict[str, Any] | None]]]
] = {
    Analysis.LAYER_ABLATION: ("layer_affinity", analyses.layer_ablation),
    Analysis.TAMPER_CURVE: ("tamper_curve", analyses.tamper_curve),
}


def run(context: TrainerContext) -> None:
    """Write the parts of the report, by their names in it."""
    follow_up = context.spec.follow_up
    assert follow_up is not None, "the plan of other jobs has no such stage"  # noqa: S101
    workspace = context.workspace
    trained = read_tensors(workspace.artifact(ArtifactName.TRAINED_ADAPTER))
    perturbation = read_tensors(workspace.artifact(ArtifactName.PERTURBATION))
    strength = float(workspace.read_json(ArtifactName.STRENGTH)["strength"])
    loaded = recorded_base_model(context)
    found: dict[str, dict[str, Any] | None] = {}
    with adapted_model(loaded, lora_settings(context.spec), tensors=trained) as model:
        guarded = GuardedModel(loaded, model, trained, perturbation, strength)
        for analysis in follow_up.include:
            name, make = _SECTIONS[analysis]
            found[name] = make(context, guarded)
    workspace.write_json(ArtifactName.ANALYSES, found)
