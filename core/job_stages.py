"""Which stages of the plan a job takes: a follow-up job takes over what training has left."""

from typing import Final

from core.follow_up import FollowUp
from core.job_spec import JobSpec
from core.stages import Stage

_TRAINING_ALONE: Final = frozenset(
    {
        Stage.SCREEN_DATASET,
        Stage.PREPARE_BASE_MODEL,
        Stage.ATTRIBUTE_ROWS,
        Stage.FINE_TUNE,
        Stage.PERTURB,
        Stage.RELEASE_CHECKPOINT,
    }
)
FOLLOW_UP_ALONE: Final = frozenset({Stage.ADOPT_TRAINING, Stage.EVALUATE_PROMPTS, Stage.ANALYSE})


def stages_of(spec: JobSpec) -> tuple[Stage, ...]:
    """Give the stages that a job takes, in their order."""
    left_out = FOLLOW_UP_ALONE if spec.follow_up is None else _left_out(spec.follow_up)
    return tuple(stage for stage in Stage if stage not in left_out)


def _left_out(follow_up: FollowUp) -> frozenset[Stage]:
    wanted = {
        Stage.EVALUATE_PROMPTS: follow_up.prompts is not None,
        Stage.ANALYSE: bool(follow_up.include),
    }
    return _TRAINING_ALONE | {stage for stage, is_asked in wanted.items() if not is_asked}
