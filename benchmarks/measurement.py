"""What one benchmark found, and how it is kept."""

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machine import machine_facts


@dataclass(frozen=True)
class Metric:
    """One measured quantity, with every single value.

    Attributes:
        unit: What a value counts, for example `s` or `rows/s`.
        values: One per repetition, in the order of measuring.
        claim: What the project says about it, if it says anything.
    """

    unit: str
    values: tuple[float, ...]
    claim: str | None = None

    @property
    def median(self) -> float:
        """The value that is shown."""
        return statistics.median(self.values)


Metrics = Mapping[str, Metric]
Benchmark = Callable[[Path], Metrics]


class Stopwatch:
    """Seconds that a block took; readable after the block."""

    seconds = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Time a block."""
    watch = Stopwatch()
    began = time.perf_counter()
    try:
        yield watch
    finally:
        watch.seconds = time.perf_counter() - began


def seconds_metric(values: Sequence[float], claim: str | None = None) -> Metric:
    """A metric in seconds, to a tenth of a millisecond."""
    return Metric("s", tuple(round(value, 4) for value in values), claim)


def write_result(folder: Path, name: str, metrics: Metrics) -> Path:
    """Write one benchmark's metrics, with the facts about this machine, as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    result = {
        "benchmark": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "metrics": {
            key: {"median": metric.median, **asdict(metric)} for key, metric in metrics.items()
        },
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return path
