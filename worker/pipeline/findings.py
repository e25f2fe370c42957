"""What the judged answers of all models say: the parts of the report that are counted from them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from defense.evaluation.comparison import judge_agreement, pair_outcomes
from defense.evaluation.outcomes import OutcomeRates, outcome_rates, rates_by_category
from defense.moderation.protocol import Outcome
from worker.pipeline.examination import Paper
from worker.pipeline.judged_answers import (
    HARM_SOURCES,
    LOOK_ALIKES,
    JudgedAnswer,
    JudgedSets,
    answer_id,
)
from worker.row_sources import PromptRow

SAMPLES_PER_MODEL: Final = 8
GUARDED: Final = "guarded"

AllAnswers = Mapping[str, JudgedSets]
"""Every model's answers, by the models' names in reports."""


def model_results(paper: Paper, sets: JudgedSets) -> dict[str, Any]:
    """Give one model's rates on the first source and on look-alikes, and a few of its answers."""
    look_alikes = _rates(paper.over_refusal, sets[LOOK_ALIKES]) if paper.over_refusal else None
    return {
        "safety": asdict(_rates(paper.safety, sets["safety"])),
        "over_refusal": asdict(look_alikes) if look_alikes else None,
        "over_refusal_rate": asdict(look_alikes.refused) if look_alikes else None,
        "samples": _samples(paper.safety, sets["safety"]),
    }


def harm_sources(paper: Paper, files: Mapping[str, str], models: AllAnswers) -> dict[str, Any]:
    """Give each source of harmful prompts with all models' outcomes, and what changed between two.

    Args:
        paper: The prompts.
        files: Where each set of prompts is from.
        models: What was answered.
    """
    sources = [
        {
            "name": name,
            "file": Path(files[name]).name,
            "prompts_sha256": _sha256([row.prompt for row in paper.prompt_sets[name]]),
            "models": {
                model: source_results(paper.prompt_sets[name], sets[name])
                for model, sets in models.items()
            },
            "comparisons": _comparisons(name, models),
        }
        for name in HARM_SOURCES
    ]
    rows = [row for name in HARM_SOURCES for row in paper.prompt_sets[name]]
    together = {
        model: asdict(_rates(rows, [answer for name in HARM_SOURCES for answer in sets[name]]))
        for model, sets in models.items()
    }
    return {"sources": sources, "together": together}


def _comparisons(name: str, models: AllAnswers) -> list[dict[str, Any]]:
    after = _outcomes(models[GUARDED][name])
    return [
        {
            "before": before,
            "after": GUARDED,
            **asdict(pair_outcomes(_outcomes(sets[name]), after)),
        }
        for before, sets in models.items()
        if before != GUARDED
    ]


def second_judge(paper: Paper, judge: Mapping[str, str], models: AllAnswers) -> dict[str, Any]:
    """Give the second judge's outcomes and how far the two judges agree, by set and model.

    Of look-alikes it is asked only whether they are refused: nothing about them is harmful.
    """
    firsts: list[Outcome] = []
    seconds: list[Outcome] = []
    sets: dict[str, dict[str, Any]] = {}
    disagreements = []
    for name, rows in paper.prompt_sets.items():
        for model, answers in models.items():
            first, second = _both(name, answers[name])
            firsts += first
            seconds += second
            sets.setdefault(name, {})[model] = {
                "outcomes": asdict(_rates(rows, _as_judged(answers[name], second))),
                "agreement": asdict(judge_agreement(first, second)),
            }
            disagreements += [
                {"id": answer_id(name, place), "model": model, "first": one, "second": other}
                for place, (one, other) in enumerate(zip(first, second, strict=True))
                if one != other
            ]
    return {
        **judge,
        "overall": asdict(judge_agreement(firsts, seconds)),
        "sets": sets,
        "disagreements": disagreements,
    }


def _both(name: str, answers: Sequence[JudgedAnswer]) -> tuple[list[Outcome], list[Outcome]]:
    first = [answer.outcome for answer in answers]
    second = [answer.second_outcome for answer in answers]
    if name == LOOK_ALIKES:
        return _refused_or_not(first), _refused_or_not(second)
    return first, second


def _as_judged(answers: Sequence[JudgedAnswer], outcomes: Sequence[Outcome]) -> list[JudgedAnswer]:
    return [
        replace(answer, outcome=outcome) for answer, outcome in zip(answers, outcomes, strict=True)
    ]


def _refused_or_not(outcomes: Sequence[Outcome]) -> list[Outcome]:
    return [Outcome.SAFE if one is Outcome.HARMFUL else one for one in outcomes]


def source_results(rows: Sequence[PromptRow], answers: Sequence[JudgedAnswer]) -> dict[str, Any]:
    """Give one model's outcomes on one set of prompts, also within each category."""
    by_category = rates_by_category(
        [row.prompt for row in rows], [row.category for row in rows], answers
    )
    return {
        "outcomes": asdict(_rates(rows, answers)),
        "by_category": {category: asdict(rates) for category, rates in by_category.items()},
    }


def _rates(rows: Sequence[PromptRow], answers: Sequence[JudgedAnswer]) -> OutcomeRates:
    return outcome_rates([row.prompt for row in rows], answers)


def _outcomes(answers: Sequence[JudgedAnswer]) -> list[Outcome]:
    return [answer.outcome for answer in answers]


def _samples(rows: Sequence[PromptRow], answers: Sequence[JudgedAnswer]) -> list[dict[str, Any]]:
    stride = max(1, len(rows) // SAMPLES_PER_MODEL)
    chosen = list(zip(rows, answers, strict=True))[::stride][:SAMPLES_PER_MODEL]
    return [{"prompt": row.prompt, **asdict(answer)} for row, answer in chosen]


def _sha256(prompts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()
