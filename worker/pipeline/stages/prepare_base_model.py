"""Stage `prepare_base_model`: have the base model on this machine's disk and in memory.

Writes which weights exactly the job trains on, so that the report can name them.
"""

from typing import Final

from core.stages import ArtifactName, Stage
from worker.pipeline.base_model import public_source
from worker.trainer_tools import TrainerContext

NAME: Final = Stage.PREPARE_BASE_MODEL
READS: Final = ()
WRITES: Final = (ArtifactName.BASE_MODEL,)


def run(context: TrainerContext) -> None:
    """Load the base model and record its fingerprint."""
    models = context.tools.base_models
    prepared = models.prepare(context.entry)
    context.reporter.alive()
    loaded = models.warm(context.entry)
    aligned = context.entry.aligned_adapter
    context.workspace.write_json(
        ArtifactName.BASE_MODEL,
        {
            "id": context.entry.id,
            "title": context.entry.title,
            "licence": context.entry.licence,
            "source": public_source(context.entry.source),
            "weights_sha256": prepared.weights_sha256,
            "parameters": loaded.model.num_parameters(),
            "aligned_adapter": None if aligned is None else public_source(aligned.source),
        },
    )
