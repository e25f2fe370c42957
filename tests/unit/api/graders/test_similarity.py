"""How alike two texts are, against values computed by hand."""

import subprocess
import sys

import pytest

from api.graders.schemas import WordMetric
from api.graders.similarity import cosine, similarity

SAMPLE, REFERENCE = "the cat sat down", "The cat sat."


def test_bleu_is_the_mean_of_four_precisions() -> None:
    # 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, and a tenth of a match among 1 run of four.
    expected = (3 / 4 * 2 / 3 * 1 / 2 * 0.1 / 1) ** (1 / 4)

    assert similarity("bleu", SAMPLE, REFERENCE) == pytest.approx(expected)


def test_bleu_punishes_a_text_that_is_too_short() -> None:
    # Two words of two, one pair of one; e ** (1 - 4 / 2) for half of the reference's length.
    assert similarity("bleu", "the cat", "the cat sat down") == pytest.approx(2.718281828**-1)


def test_gleu_is_the_smaller_of_precision_and_recall() -> None:
    # The sample has 4 + 3 + 2 + 1 runs of one to four words; 3 + 2 + 1 stand in the reference.
    assert similarity("gleu", SAMPLE, REFERENCE) == pytest.approx(6 / 10)


def test_meteor_weighs_recall_and_punishes_pieces() -> None:
    precision, recall = 3 / 4, 3 / 3
    mean = precision * recall / (0.9 * precision + 0.1 * recall)
    one_piece_of_three_words = 0.5 * (1 / 3) ** 3

    found = similarity("meteor", SAMPLE, REFERENCE)

    assert found == pytest.approx(mean * (1 - one_piece_of_three_words))


def test_meteor_matches_stems_and_no_synonyms() -> None:
    equal = similarity("meteor", "the cat sat", "the cat sat")

    assert similarity("meteor", "the cats sat", "the cat sat") == equal
    assert similarity("meteor", "the feline sat", "the cat sat") < equal


@pytest.mark.parametrize("metric", ["bleu", "gleu", "meteor"])
def test_words_of_any_script_are_read(metric: WordMetric) -> None:
    assert similarity(metric, "Мама мыла раму", "мама мыла раму!") > 0.9


@pytest.mark.parametrize("metric", ["bleu", "gleu", "meteor"])
@pytest.mark.parametrize(
    ("text", "reference"), [("", ""), ("", "a"), ("a", ""), ("a", "b"), ("!", "?")]
)
def test_texts_without_a_common_word_are_not_alike(
    metric: WordMetric, text: str, reference: str
) -> None:
    assert similarity(metric, text, reference) == 0


@pytest.mark.parametrize("metric", ["bleu", "gleu", "meteor"])
@pytest.mark.parametrize("text", ["a b " * 25_000, "y" * 99_990 + "ing"])
@pytest.mark.timeout(20)
def test_the_longest_texts_are_graded_in_time(metric: WordMetric, text: str) -> None:
    assert 0 <= similarity(metric, text, "b c " * 25_000) <= 1


@pytest.mark.parametrize(
    ("vector", "likeness"),
    [
        ((0.6, 0.8), 1.0),
        ((0.8, 0.6), 0.96),
        ((0.8, -0.6), 0.0),
        ((-0.6, -0.8), 0.0),
        ((0.6000001, 0.8000001), 1.0),
    ],
)
def test_cosine_lies_from_0_to_1(vector: tuple[float, ...], likeness: float) -> None:
    found = cosine(vector, (0.6, 0.8))

    assert 0 <= found <= 1
    assert found == pytest.approx(likeness)


def test_the_gateway_does_not_wait_for_nltk() -> None:
    code = "import api.main, sys; sys.exit('nltk' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
