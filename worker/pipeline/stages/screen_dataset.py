"""Stage `screen_dataset`: score the user's rows with the moderation classifier.

Writes which rows are flagged, and which rows are held out to judge the model by. The policy is to
report: no row is dropped and no job is refused for its rows, because the defense trains against
them and the gate judges what comes out.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from core.stages import ArtifactName, Stage
from defense.moderation.protocol import Judgement, ModerationClassifier, Outcome
from worker.pipeline.encoded_rows import UserRow, read_user_rows
from worker.pipeline.held_out import choose_held_out
from worker.trainer_tools import TrainerContext

NAME: Final = Stage.SCREEN_DATASET
READS: Final = (ArtifactName.TRAINING_ROWS, ArtifactName.VALIDATION_ROWS)
WRITES: Final = (ArtifactName.SCREENING,)

BATCH: Final = 64
CATEGORY_THRESHOLD: Final = 0.5


def run(context: TrainerContext) -> None:
    """Write the screening and tell the owner what was found."""
    classifier = context.tools.classifier
    workspace = context.workspace
    training = list(read_user_rows(workspace, ArtifactName.TRAINING_ROWS))
    validation = list(read_user_rows(workspace, ArtifactName.VALIDATION_ROWS))
    found = _screen(context, classifier, training)
    found_in_validation = _screen(context, classifier, validation)
    held_out: list[int] = []
    if not validation:
        held_out = choose_held_out([row.line for row in training], set(found["flagged_lines"]))
    workspace.write_json(
        ArtifactName.SCREENING,
        {
            "classifier": {"name": classifier.name, "version": classifier.version},
            "policy": "report",
            "training": found,
            "validation": found_in_validation,
            "held_out_lines": held_out,
        },
    )
    context.reporter.event(
        f"Moderation flagged {len(found['flagged_lines'])} of {len(training)} training rows. "
        "They stay in the training; the defense and the gate deal with them.",
        event_type="moderation_checks",
        data={
            "rows": len(training),
            "flagged_rows": len(found["flagged_lines"]),
            "outcomes": found["outcomes"],
            "categories": found["categories"],
            "policy": "report",
            "held_out_rows": len(held_out),
        },
    )


def _screen(
    context: TrainerContext, classifier: ModerationClassifier, rows: Sequence[UserRow]
) -> dict[str, Any]:
    outcomes: Counter[str] = Counter()
    categories: Counter[str] = Counter()
    flagged: list[int] = []
    for row, judgement in _judged(context, classifier, rows):
        outcomes[judgement.outcome.value] += 1
        if judgement.outcome is not Outcome.HARMFUL:
            continue
        flagged.append(row.line)
        categories.update(
            name for name, score in judgement.category_scores.items() if score >= CATEGORY_THRESHOLD
        )
    return {
        "rows": len(rows),
        "flagged_lines": flagged,
        "outcomes": dict(outcomes),
        "categories": dict(categories),
    }


def _judged(
    context: TrainerContext, classifier: ModerationClassifier, rows: Sequence[UserRow]
) -> Iterator[tuple[UserRow, Judgement]]:
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        judgements = classifier.judge([row.exchange for row in batch])
        context.reporter.progress(start + len(batch), len(rows))
        yield from zip(batch, judgements, strict=True)
