"""The safety table."""

import io
from typing import Any

from rich.console import Console

from cli.report_table import (
    Rate,
    SafetyReport,
    over_refusal_sentence,
    render_table,
    second_source_sentence,
    verdict_sentence,
)
from tests.unit.cli.reports import rate, raw_report, report, scores

RATES = ("harmful", "refused", "incoherent")


def printed(safety_report: SafetyReport) -> str:
    stream = io.StringIO()
    Console(file=stream, width=160).print(render_table(safety_report))
    return stream.getvalue()


def test_a_rate_is_written_in_per_cent_with_its_interval() -> None:
    assert str(Rate(value=0.978, low=0.922, high=0.996)) == "97.8 (92-100)"


def test_models_stand_in_the_order_of_a_jobs_life() -> None:
    shuffled = report(
        guarded=scores(0.1), tuned=scores(0.9), aligned=scores(0.0), base=scores(0.95)
    )

    assert list(shuffled.models) == ["base", "aligned", "tuned", "guarded"]


def test_the_table_shows_all_four_rates_and_names_the_judge() -> None:
    text = printed(report(base=scores(0.95), guarded=scores(0.1, incoherent=0.02, accuracy=0.88)))

    row = next(line for line in text.splitlines() if "guarded" in line)
    assert "10.0 (5-15)" in row
    assert "88.0 (83-93)" in row
    assert "2.0 (0-7)" in row
    assert "98 unseen harmful prompts, judged by embedded" in text


def test_the_widest_table_fits_on_eighty_columns() -> None:
    widest = {key: {"value": 1.0, "low": 0.96, "high": 1.0} for key in RATES}
    model = {"safety": {"n": 98, **widest}, "task_accuracy": widest["harmful"]}
    stream = io.StringIO()

    Console(file=stream, width=80).print(render_table(report(base=model, guarded=model)))

    rows = [line for line in stream.getvalue().splitlines() if line.startswith("│")]
    assert len(rows) == 2
    assert all(row.count("100.0 (96-100)") == 4 for row in rows)


def test_a_narrow_terminal_folds_rates_and_cuts_none() -> None:
    stream = io.StringIO()
    safety_report = report(tuned=scores(0.9, accuracy=0.88), guarded=scores(0.1, accuracy=0.88))

    Console(file=stream, width=64).print(render_table(safety_report))

    text = stream.getvalue()
    assert "…" not in text
    assert text.count("88.0") == 2
    assert text.count("(83-93)") == 2


def test_an_accuracy_that_was_not_measured_is_a_dash() -> None:
    text = printed(report(tuned=scores(0.9, accuracy=None)))

    row = next(line for line in text.splitlines() if "tuned" in line)
    assert row.rstrip(" │").endswith("-")


def test_the_verdict_says_how_far_harm_fell_and_at_which_strength() -> None:
    sentence = verdict_sentence(report(tuned=scores(0.9), guarded=scores(0.1)))

    assert sentence == "Released: harmful answers fell from 90.0% to 10.0% with strength 0.75."


def test_a_blocked_adapter_comes_with_its_reasons() -> None:
    raw: dict[str, Any] = raw_report(tuned=scores(0.9), guarded=scores(0.9))
    raw["decision"] = {"verdict": "blocked", "reasons": ["Above the limit of 20%."]}

    sentence = verdict_sentence(SafetyReport.read(raw))

    assert sentence == (
        "Blocked (Above the limit of 20%.): harmful answers did not fall with strength 0.75."
    )


def test_the_price_in_refused_harmless_prompts_is_not_hidden() -> None:
    guarded = {**scores(0.0), "over_refusal_rate": rate(0.5)}

    assert over_refusal_sentence(report(tuned=scores(0.9), guarded=guarded)) == (
        "Harmless look-alikes refused, per cent: guarded 50.0 (45-55)."
    )
    assert "not measured" in over_refusal_sentence(report(tuned=scores(0.9)))


def test_the_second_source_is_told_of_in_the_order_of_a_jobs_life() -> None:
    raw: dict[str, Any] = raw_report(tuned=scores(0.9), guarded=scores(0.1))
    models = {
        name: {"outcomes": {"harmful": rate(value)}}
        for name, value in (("guarded", 0.05), ("base", 0.5))
    }
    raw["harm_sources"] = {
        "sources": [{"name": "safety", "models": {}}, {"name": "second_safety", "models": models}]
    }

    assert second_source_sentence(SafetyReport.read(raw)) == (
        "Harmful on prompts of another origin, per cent: base 50.0 (45-55), guarded 5.0 (0-10)."
    )


def test_a_report_of_an_earlier_version_has_no_second_source() -> None:
    sentence = second_source_sentence(report(tuned=scores(0.9)))

    assert sentence == "Harmful on prompts of another origin, per cent: not measured."
