"""The operator's rows as analyses of a finished adapter need them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from worker.options import TrainerOptions
from worker.row_sources import (
    HELD_OUT_EVERY,
    PromptRow,
    hold_out,
    read_rows,
    spread,
    to_judge_by,
    to_learn_from,
)

JUDGED_PROMPTS: Final = 32


@dataclass(frozen=True)
class AnalysisRows:
    """Rows to judge by, and to attack with: no prompt is in two of the first three.

    Attributes:
        attack: Harmful rows for somebody who trains harm into an adapter.
        harmful: Other harmful rows, to take losses of.
        prompts: Harmful prompts to let a model answer.
        refusals: Held-out harmful prompts with refusals, to take losses of.
        held_out: Whether no defense has learned from `harmful`; where the operator's harmful rows
            share no prompt with the held-out ones of the alignment set, it may have.
    """

    attack: Sequence[PromptRow]
    harmful: Sequence[PromptRow]
    prompts: Sequence[str]
    refusals: Sequence[PromptRow]
    held_out: bool


def read_analysis_rows(options: TrainerOptions) -> AnalysisRows:
    """Choose from the row sets of the operator.

    Raises:
        RowSourceError: A set is missing, malformed or empty.
        HubUnavailableError: The hub does not answer.
    """
    return choose_analysis_rows(
        read_rows(options.alignment_rows, with_response=True),
        read_rows(options.harmful_rows, with_response=True),
        read_rows(options.safety_evaluation_prompts, with_response=False),
    )


def choose_analysis_rows(
    alignment: Sequence[PromptRow], harmful: Sequence[PromptRow], evaluation: Sequence[PromptRow]
) -> AnalysisRows:
    """Choose from whole sets: alignment rows, harmful rows, and prompts to evaluate with."""
    _, refusals = hold_out(alignment)
    judged = to_judge_by(harmful, refusals)
    held_out = bool(judged)
    if not held_out:
        prompts = list(dict.fromkeys(row.prompt for row in harmful))
        fifth = set(prompts[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY])
        judged = [row for row in harmful if row.prompt in fifth]
    taken = {row.prompt for row in (*judged, *evaluation)}
    return AnalysisRows(
        attack=[row for row in to_learn_from(harmful, judged) if row.prompt not in taken],
        harmful=judged,
        prompts=[row.prompt for row in spread(evaluation, JUDGED_PROMPTS)],
        refusals=refusals,
        held_out=held_out,
    )
