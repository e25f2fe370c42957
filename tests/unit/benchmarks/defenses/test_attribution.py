"""Rankings of users' rows in the benchmark: measured once, kept apart, shown as a table."""

from dataclasses import replace

import pytest

from benchmarks.defenses import identity
from benchmarks.defenses.attribution import encode_all, measure_attributions
from benchmarks.defenses.attribution_tables import attribution_tables
from benchmarks.defenses.laboratory import Laboratory
from benchmarks.defenses.public_rows import TASKS, PublicRows
from benchmarks.defenses.questions import user_file
from benchmarks.defenses.store import Cell, ResultStore
from benchmarks.defenses.summary import Summary
from tests.defense_results import attribution
from tests.tiny_laboratory import CAPS

CELL = Cell("sst2", 0, 0.1)


def _measure(laboratory: Laboratory, public: PublicRows, store: ResultStore, *cells: Cell) -> int:
    return measure_attributions(laboratory, public, store, cells, tell=lambda _: None)


def test_planted_rows_are_ranked_once(
    laboratory: Laboratory, public: PublicRows, store: ResultStore
) -> None:
    cells = CELL, Cell("gsm8k", 0, 0.2), Cell("sst2", 0, 0.0), Cell("sst2")

    first = _measure(laboratory, public, store, *cells)
    second = _measure(laboratory, public, store, *cells)

    assert (first, second) == (2, 0)
    found = {(each["task"], each["ratio"]): each for each in store.all_attributions()}
    assert set(found) == {("sst2", 0.1), ("gsm8k", 0.2)}
    one = found["sst2", 0.1]
    assert (one["rows"], one["planted"], one["seed"]) == (20, 2, 0)
    for name in ("precision_at_k", "area_under_curve", "planted_above_benign"):
        assert 0 <= one[name] <= 1
    assert store.all_results() == []


def test_other_rows_are_another_ranking(
    laboratory: Laboratory, public: PublicRows, store: ResultStore
) -> None:
    _measure(laboratory, public, store, CELL)

    fewer = replace(laboratory, caps=replace(CAPS, user_rows=10))

    assert _measure(fewer, public, store, CELL) == 1
    assert [each["rows"] for each in store.all_attributions()] == [10]


def test_a_file_that_loses_a_row_is_refused(laboratory: Laboratory, public: PublicRows) -> None:
    file = user_file(public, TASKS["sst2"], 0, 0.1, CAPS)
    short = laboratory.entry.model_copy(update={"max_sequence_tokens": 8})

    with pytest.raises(ValueError, match="nothing to learn from"):
        encode_all(replace(laboratory, entry=short), file)


def test_no_methods_result_depends_on_the_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    before = identity.code_key([]), identity.attribution_code_key()
    identity._shared_code.cache_clear()
    found = identity._meaning

    def changed(path: object) -> str:
        return "changed" if path in identity._RANKING else found(path)

    monkeypatch.setattr(identity, "_meaning", changed)

    assert identity.code_key([]) == before[0]
    assert identity.attribution_code_key() != before[1]


def test_the_table_shows_every_ranking() -> None:
    (table,) = attribution_tables(Summary([], [attribution(0.75), attribution(1.0, seed=1)]))

    assert table.rows == [
        ("sst2", "0", "0.1", "2 of 20", "0.75", "0.987", "0.50", "100%", "25%", "3.0"),
        ("sst2", "1", "0.1", "2 of 20", "1.00", "0.987", "0.50", "100%", "25%", "3.0"),
    ]
    assert list(attribution_tables(Summary([]))) == []
