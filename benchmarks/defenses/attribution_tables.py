"""How well planted rows were found, as a table."""

from collections.abc import Iterator

from benchmarks.defenses.attribution import HIGH
from benchmarks.defenses.summary import Summary
from benchmarks.defenses.tables import Table

_NOTE = (
    "Rows ranked by their gradients before training, as jobs rank them; k is the number of planted "
    "rows. Beside it the moderation classifier's score, which has read text of this kind. Last: "
    f"rows that score above {HIGH:.0%} of the operator's harmless ones."
)
_HEAD = (
    "task",
    "seed",
    "ratio",
    "planted",
    "precision at k",
    "area under the curve",
    "moderation: precision at k",
    "planted above harmless",
    "clean above harmless",
    "seconds",
)


def attribution_tables(summary: Summary) -> Iterator[Table]:
    """One table, if anything was ranked."""
    rows = [
        (
            each["task"],
            str(each["seed"]),
            f"{each['ratio']:g}",
            f"{each['planted']} of {each['rows']}",
            f"{each['precision_at_k']:.2f}",
            f"{each['area_under_curve']:.3f}",
            f"{each['moderation_precision_at_k']:.2f}",
            f"{each['planted_above_benign']:.0%}",
            f"{each['clean_above_benign']:.0%}",
            f"{each['seconds']:.1f}",
        )
        for each in summary.attributions
    ]
    if rows:
        yield Table("Planted rows found", _NOTE, _HEAD, rows)
