"""Stage `adopt_training`: make what another job's training has left this job's own.

A follow-up job trains nothing: weights, perturbation and what was found in the rows are those of
its origin, byte for byte. Only the strength may be another one. The checkpoints stay the origin's.
"""

import json
from typing import Any, Final

from core.follow_up import TAKEN_OVER
from core.stages import ArtifactName, Stage
from worker.pipeline.context import SupervisorContext

NAME: Final = Stage.ADOPT_TRAINING
READS: Final = ()
WRITES: Final = TAKEN_OVER

_REWRITTEN: Final = frozenset({ArtifactName.STRENGTH, ArtifactName.TRAINING})


def run(context: SupervisorContext) -> None:
    """Take the origin's artifacts over."""
    workspace, follow_up = context.workspace, context.spec.follow_up
    assert follow_up is not None, "the plan of other jobs has no such stage"  # noqa: S101
    for name in WRITES:
        if name not in _REWRITTEN:
            workspace.origin(name).replace(workspace.output(name))
    strength = follow_up.strength_record(_read(context, ArtifactName.STRENGTH))
    workspace.write_json(ArtifactName.STRENGTH, strength)
    training = {**_read(context, ArtifactName.TRAINING), "snapshot_steps": []}
    workspace.write_json(ArtifactName.TRAINING, training)


def _read(context: SupervisorContext, name: ArtifactName) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(context.workspace.origin(name).read_bytes())
    return content
