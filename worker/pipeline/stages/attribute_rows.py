"""Stage `attribute_rows`: rank training rows by how far they pull the model towards harm.

Looks at gradients at the weights that training begins with, on a model of its own: `fine_tune`
trains the same bytes with or without it. Writes lines, scores and ranks, and no text of any row. Of
a file too long to look at as a whole, flagged rows come first and the others are spread evenly.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

from core.attributed_rows import attributed_row_count
from core.job_spec import Hyperparameters
from core.stages import ArtifactName, Stage
from defense.errors import DefenseError
from defense.evaluation.row_attribution import RowAttribution, attribute_rows, spread
from defense.training.loss import AdapterLoss
from worker.pipeline.adapted_model import adapted_model, continued_adapter, lora_settings
from worker.pipeline.base_model import recorded_base_model
from worker.pipeline.defender_rows import defender_rows
from worker.pipeline.encoded_rows import UserRow
from worker.pipeline.held_out import read_learned_rows
from worker.trainer_tools import TrainerContext

NAME: Final = Stage.ATTRIBUTE_ROWS
READS: Final = (ArtifactName.TRAINING_ROWS, ArtifactName.SCREENING, ArtifactName.BASE_MODEL)
WRITES: Final = (ArtifactName.ATTRIBUTION,)

LISTED_ROWS: Final = 500
TOLD_ROWS: Final = 20
NAMED_LINES: Final = 5


def run(context: TrainerContext) -> None:
    """Write the ranking and tell the owner which rows lead it."""
    screening = context.workspace.read_json(ArtifactName.SCREENING)
    learned = [row for row in read_learned_rows(context.workspace) if row.encoded.supervised_tokens]
    wanted = context.tools.options.attribution_rows
    count = attributed_row_count(
        len(learned), _rows_read(context.spec.hyperparameters, len(learned)), wanted
    )
    chosen = choose_rows(learned, frozenset(screening["training"]["flagged_lines"]), count)
    ranked: list[dict[str, Any]] = []
    if chosen:
        try:
            ranked = ranking(chosen, _attribute(context, chosen))
        except (DefenseError, RuntimeError, ValueError) as error:
            # What the user is here for is the model: neither a kind of layer that gradients of
            # single rows are not known for nor a full device may cost it.
            context.reporter.event(f"Rows could not be ranked: {error}", level="warn")
    context.workspace.write_json(
        ArtifactName.ATTRIBUTION,
        {
            "training_rows": len(learned),
            "attributed_rows": len(ranked),
            "rows": ranked[:LISTED_ROWS],
        },
    )
    if ranked:
        _tell(context, ranked, len(learned))


def choose_rows(rows: Sequence[UserRow], flagged: Collection[int], count: int) -> list[UserRow]:
    """Choose rows to look at, in their order: flagged ones first, the others evenly spread."""
    if count == 0:
        return []
    suspects = [row for row in rows if row.line in flagged]
    others = [row for row in rows if row.line not in flagged]
    chosen = spread(suspects, min(count, len(suspects)))
    chosen += spread(others, min(count - len(chosen), len(others)))
    return sorted(chosen, key=lambda row: row.line)


def ranking(rows: Sequence[UserRow], found: RowAttribution) -> list[dict[str, Any]]:
    """List lines with their scores, the highest score first; a tie by line."""
    scored = sorted(zip(found.scores, rows, strict=True), key=lambda pair: -pair[0])
    return [
        {
            "rank": rank,
            "line": row.line,
            "score": round(score, 4),
            "percentile": round(found.percentile(score), 4),
        }
        for rank, (score, row) in enumerate(scored, start=1)
    ]


def _attribute(context: TrainerContext, rows: Sequence[UserRow]) -> RowAttribution:
    loaded = recorded_base_model(context)
    with adapted_model(
        loaded,
        lora_settings(context.spec),
        aligned=continued_adapter(context, loaded),
        seed=context.spec.seed,
    ) as model:
        return attribute_rows(
            AdapterLoss(model, loaded.pad_token_id),
            [row.encoded for row in rows],
            defender_rows(context),
            context.reporter.alive,
            most=context.spec.hyperparameters.batch_size,
        )


def _rows_read(wanted: Hyperparameters, rows: int) -> int:
    """How many rows training reads, all passes together."""
    passes = rows * wanted.n_epochs
    return passes if wanted.max_steps is None else min(passes, wanted.max_steps * wanted.batch_size)


def _tell(context: TrainerContext, ranked: Sequence[dict[str, Any]], rows: int) -> None:
    lines = ", ".join(str(row["line"]) for row in ranked[:NAMED_LINES])
    context.reporter.event(
        f"Compared {len(ranked)} of {rows} training rows with harmful ones by their gradients; "
        f"these lines pull most towards harm: {lines}.",
        data={"attributed_rows": len(ranked), "rows": ranked[:TOLD_ROWS]},
    )
