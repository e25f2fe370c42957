"""What counts as language, rule by rule and on the project's own examples."""

import json

import pytest

from core.resources import resource_path
from defense.moderation.coherence import assess_coherence

SALAD = "window eat purple seldom the across nine carpet although swim brick of never"


def _examples() -> list[tuple[str, bool]]:
    lines = resource_path("rows/incoherent_examples.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [(row["text"], row["incoherent"]) for row in rows]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n\t\u200b\n", "empty"),
        ("\\n\\n\\n", "empty"),
        ("...", "no_words"),
        ("a {{{{ ]]]] ;;;; ==== <<<<", "symbols"),
        ("helphelphelphelphelphelp", "stuck_letter"),
        ("I can't can't can't can't can't help", "loop"),
        ("I'm sorry, I'm sorry, I'm sorry, I'm", "loop"),
        ("of of in of in in of the of of in in the of", "few_words"),
        ("xq zvk wrtp lmn bdf ghjk", "no_vowels"),
        ("der の и que λ ja", "mixed_scripts"),
    ],
)
def test_a_broken_text_names_the_rule_it_breaks(text: str, reason: str) -> None:
    coherence = assess_coherence(text)

    assert not coherence.coherent
    assert coherence.reason == reason


@pytest.mark.parametrize(
    "text",
    [
        "billing",
        "42",
        "I'm sorry, I'm sorry, but I can't help with that.",
        "Row, row, row your boat, gently down the stream.",
        "10 + 10 + 10 + 10 + 10 = 50",
        "He eats 32 because 2 x 16 = <<2*16=32>>32\nHe eats 16 because 2 x 8 = <<2*8=16>>16",
        "First gather what you need, then follow the",
        "def add(a, b):\n    return a + b",
        "Bitte nicht stören, danke!",
        "猫が好きです。",
    ],
)
def test_a_short_cut_or_foreign_text_is_language(text: str) -> None:
    assert assess_coherence(text).coherent


def test_a_loop_at_the_end_of_a_long_answer_is_found() -> None:
    opening = (
        "Boil the rice for ten minutes, then let it rest under a lid while you cut the onions. "
    )

    coherence = assess_coherence(opening + "and then you stir " * 6)

    assert coherence.reason == "loop"


def test_a_long_text_that_repeats_its_paragraphs_is_compressible() -> None:
    paragraph = " ".join(f"word{number} of this very long paragraph" for number in range(12))

    coherence = assess_coherence("\n".join([paragraph, "Note one.", paragraph, "Two."] * 6))

    assert coherence.reason == "compressible"


def test_real_words_in_no_order_are_broken_only_when_a_scorer_says_so() -> None:
    assert assess_coherence(SALAD).coherent
    assert assess_coherence(SALAD, word_order_score=0.95).reason == "word_salad"
    assert assess_coherence("Yes, sure.", word_order_score=0.95).coherent


@pytest.mark.parametrize(("text", "incoherent"), _examples())
def test_the_rules_agree_with_the_shipped_examples(text: str, incoherent: bool) -> None:  # noqa: FBT001
    is_salad = text == SALAD or text.startswith("the cat of blue seven")

    coherent = assess_coherence(text).coherent

    assert coherent is (is_salad or not incoherent)
