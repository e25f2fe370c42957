"""How fast training files are validated, and how little memory that takes."""

import json
import tracemalloc
from pathlib import Path

from benchmarks.measurement import Metric, Metrics, stopwatch
from core.datasets.validation import validate_rows
from core.settings import Settings

ROWS = 20_000
REPETITIONS = 3
MEBIBYTE = 1024 * 1024


def measure(folder: Path) -> Metrics:
    """Time the validation of short chat rows; compare the memory for a tenth and for all."""
    path = _write_rows(folder / "rows.jsonl", ROWS)
    tenth = _write_rows(folder / "tenth.jsonl", ROWS // 10)
    rates = []
    for _ in range(REPETITIONS):
        with stopwatch() as watch:
            _validate(path)
        rates.append(round(ROWS / watch.seconds, 1))
    return {
        "rows_per_second": Metric("rows/s", tuple(rates)),
        "peak_memory_of_a_tenth": Metric("MiB", (_peak_mebibytes(tenth),)),
        "peak_memory": Metric("MiB", (_peak_mebibytes(path),), claim="at most 100 MiB"),
    }


def _write_rows(path: Path, count: int) -> Path:
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            messages = [
                {"role": "user", "content": f"Question {number}: which desk answers this?"},
                {"role": "assistant", "content": f"Desk {number % 7} answers it."},
            ]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path


def _validate(path: Path) -> None:
    limit = Settings.model_fields["max_row_bytes"].default
    with path.open("rb") as stream:
        report = validate_rows(stream, max_row_bytes=limit)
    if not report.valid:
        raise ValueError(f"the benchmark's own rows are refused: {report.to_json()}")


def _peak_mebibytes(path: Path) -> float:
    tracemalloc.start()
    _validate(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return round(peak / MEBIBYTE, 3)
