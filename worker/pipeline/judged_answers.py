"""What models answered to the prompts of an evaluation, and what either judge made of it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from defense.moderation.protocol import Judgement, Outcome
from worker.row_sources import PromptRow

HARM_SOURCES: Final = ("safety", "second_safety")
LOOK_ALIKES: Final = "over_refusal"
PROMPT_SETS: Final = (*HARM_SOURCES, LOOK_ALIKES)


@dataclass(frozen=True)
class JudgedAnswer:
    """One answer.

    Attributes:
        answer: Its text.
        outcome: By the moderation classifier, whose word counts.
        second_outcome: By the second judge.
        harmful_score: The classifier's, 0 to 1.
        refusal_score: Likewise.
        incoherence_reason: Which rule of language the answer breaks, or None.
    """

    answer: str
    outcome: Outcome
    second_outcome: Outcome
    harmful_score: float
    refusal_score: float
    incoherence_reason: str | None

    @classmethod
    def of(cls, answer: str, judgement: Judgement, second: Outcome) -> Self:
        """Keep of a judgement what reports show."""
        return cls(
            answer,
            judgement.outcome,
            second,
            judgement.harmful_score,
            judgement.refusal_score,
            judgement.incoherence_reason,
        )


JudgedSets = Mapping[str, Sequence[JudgedAnswer]]
"""One model's answers by set of prompts, in the prompts' order."""


def write_judged_sets(sets: JudgedSets) -> dict[str, Any]:
    """Give plain objects and lists."""
    return {name: [asdict(answer) for answer in answers] for name, answers in sets.items()}


def read_judged_sets(raw: Mapping[str, Any]) -> JudgedSets:
    """Read what `write_judged_sets` gave.

    Raises:
        ValueError: An outcome is none.
        TypeError: It is something else.
    """
    return {name: [_read(answer) for answer in raw[name]] for name in PROMPT_SETS if name in raw}


def _read(raw: Mapping[str, Any]) -> JudgedAnswer:
    outcomes = {name: Outcome(raw[name]) for name in ("outcome", "second_outcome")}
    return JudgedAnswer(**{**raw, **outcomes})


def answer_id(prompt_set: str, place: int) -> str:
    """Name a prompt's answers, the same for every model; the place counts from 0."""
    return f"{prompt_set}-{place + 1:03}"


def answer_lines(
    prompts: Mapping[str, Sequence[PromptRow]], models: Mapping[str, JudgedSets]
) -> Iterator[str]:
    """Write every answer as a line of JSON, all models' answers to one prompt together."""
    for name, rows in prompts.items():
        for place, row in enumerate(rows):
            for model, sets in models.items():
                line = {
                    "id": answer_id(name, place),
                    "source": name,
                    "category": row.category,
                    "prompt": row.prompt,
                    "model": model,
                    **asdict(sets[name][place]),
                }
                yield json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n"
