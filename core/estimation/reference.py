"""What the stages of a job take on a machine that was measured once: two CPU cores.

The figures are of the shipped model (134.5 million parameters, AMD EPYC with AVX-512 BF16);
`python -m benchmarks job_stages` measures them again. For another model the part that its passes
take is scaled by its parameters. They decide alone only until a server has measured a job itself;
after that, only how stages and sizes compare.
"""

from collections.abc import Mapping
from typing import Final

from core.analyses import Analysis
from core.attributed_rows import PASS_SHARE
from core.estimation.ranges import Range
from core.estimation.workload import FileSize, Workload
from core.screening import ScreeningPolicy
from core.stages import Stage

REFERENCE_PARAMETERS: Final = 134_515_008

START_SECONDS: Final = 6.0
LOAD_SECONDS: Final = 0.6
SECONDS_PER_MEBIBYTE: Final = 4.0
JUDGE_SECONDS: Final = 0.007
TOKEN_SECONDS: Final = 0.003
ANSWER_SECONDS: Final = 0.17
# The demo's rows have 0.18; short rows have less, and scripts that the tokenizer splits have more.
TOKENS_PER_BYTE: Final = Range(0.08, 0.18, 0.7)

# The answer for which `ANSWER_SECONDS` was measured.
_ANSWER_TOKENS: Final = 48
_TASK_ANSWER_TOKENS: Final = Range(4, 16, 64)
# Putting an adapter on the model, taking it off, writing files.
_HANDLING_SECONDS: Final = 1.0
_FIXED: Final[Mapping[Stage, float]] = {
    Stage.VALIDATE_DATASET: START_SECONDS,  # the first stage starts a trainer, if none is warm
    Stage.SCREEN_DATASET: 0.25,
    Stage.PREPARE_BASE_MODEL: 0.25,
    Stage.ADOPT_TRAINING: 0.25,
    Stage.GATE: 0.25,
    Stage.RELEASE_CHECKPOINT: 0.25,
    Stage.RELEASE: 0.25,
}
_MEBIBYTE: Final = 1024 * 1024
# The search for the perturbation's strength: how often it measures, on what.
_STRENGTHS: Final = Range(1, 4, 6)
_STRENGTH_PROMPTS: Final = 32
_STRENGTH_ROWS: Final = 48
# Reckoned from the passes that they make over the operator's rows, and never measured.
_ANALYSES: Final[Mapping[Analysis, Range]] = {
    Analysis.LAYER_ABLATION: Range(60, 180, 900),
    Analysis.TAMPER_CURVE: Range(60, 180, 900),
}
# A pass without gradients, as a share of one with them.
_FORWARD_SHARE: Final = 0.35
# Base and aligned model are judged once and their results kept, unless this is the first time.
_MODELS_JUDGED: Final = 2
# Of a project's own prompts nothing is kept: base, aligned, tuned and guarded are asked each time.
_MODELS_IN_ALL: Final = 4


def reference_seconds(
    stage: Stage, work: Workload, tokens: Range, parameters: int | None = None
) -> Range:
    """Tell what a stage would take on the machine that was measured.

    Args:
        stage: The stage.
        work: The job.
        tokens: Tokens of the user's rows that training reads.
        parameters: Of the base model; None takes those of the shipped one.
    """
    scale = (parameters or REFERENCE_PARAMETERS) / REFERENCE_PARAMETERS
    fixed, passes = _FIXED.get(stage, _HANDLING_SECONDS), Range.exactly(0)
    match stage:
        case Stage.VALIDATE_DATASET:
            read = SECONDS_PER_MEBIBYTE / _MEBIBYTE * sum(file.bytes for file in _files(work))
            return Range.exactly(fixed + read)
        case Stage.SCREEN_DATASET if work.spec.screening.policy is not ScreeningPolicy.OFF:
            judged = JUDGE_SECONDS * sum(file.rows for file in _files(work))
            return Range.exactly(fixed + judged)
        case Stage.PREPARE_BASE_MODEL | Stage.VERIFY_ARCHIVE:
            passes = Range.exactly(LOAD_SECONDS)
        case Stage.ATTRIBUTE_ROWS:
            rows = work.attributed_rows
            passes = rows * work.row_tokens(tokens) * (TOKEN_SECONDS * PASS_SHARE)
        case Stage.FINE_TUNE:
            passes = (tokens + work.guard_tokens) * TOKEN_SECONDS
        case Stage.PERTURB:
            passes = _perturbing(work, tokens)
        case Stage.EVALUATE:
            passes = _evaluating(work)
        case Stage.EVALUATE_PROMPTS if work.spec.follow_up and work.spec.follow_up.prompts:
            passes = _answers(work) * (work.spec.follow_up.prompts.prompts * _MODELS_IN_ALL)
        case Stage.ANALYSE if work.spec.follow_up:
            passes = sum((_ANALYSES[each] for each in work.spec.follow_up.include), passes)
    return passes * scale + Range.exactly(fixed)


def _files(work: Workload) -> list[FileSize]:
    return [file for file in (work.size.training, work.size.validation) if file is not None]


def _perturbing(work: Workload, tokens: Range) -> Range:
    ending, searched = work.defense.ending, work.defense.searched
    if ending is None:
        return Range.exactly(0)
    row_tokens = work.row_tokens(tokens)
    building = row_tokens * (ending.rows_read() * TOKEN_SECONDS)
    if searched is None or searched.perturbation_strength != "auto":
        return building
    answers = _answers(work) * _STRENGTH_PROMPTS
    losses = row_tokens * (_STRENGTH_ROWS * TOKEN_SECONDS * _FORWARD_SHARE)
    return building + _STRENGTHS * (answers + losses)


def _evaluating(work: Workload) -> Range:
    models = _MODELS_JUDGED if work.is_guarded else 1
    # Harmful ones, harmless look-alikes, and harmful ones of the second source.
    prompts = 2 * work.size.evaluation_prompts + work.size.second_evaluation_prompts
    safety = _answers(work) * (prompts * models)
    task = _TASK_ANSWER_TOKENS * (
        work.task_questions * (models + 1) * ANSWER_SECONDS / _ANSWER_TOKENS
    )
    # The first job on a model asks the base and the aligned model too.
    return safety * Range(1, 1, 1 + 2 / models) + task


def _answers(work: Workload) -> Range:
    """Seconds per answer; many end long before the longest that is allowed."""
    longest = ANSWER_SECONDS * work.size.answer_tokens / _ANSWER_TOKENS
    return Range.exactly(longest) * Range(0.5, 1, 1)
