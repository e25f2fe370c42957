"""Hashed pieces of words."""

# ruff: noqa: N806 - tensor names carry their dimensions in capitals

import pytest
import torch

from defense.moderation.ngrams import LETTER_PLACES, PLACES, count_places, rarity, weigh


def test_letters_and_words_are_counted_apart() -> None:
    counts = count_places("No no")

    letters = sum(times for place, times in counts.items() if place < LETTER_PLACES)
    words = sum(times for place, times in counts.items() if place >= LETTER_PLACES)
    # " no " holds 3 pairs, 2 triples, 1 four and, being shorter, the whole once more for five.
    assert (letters, words) == (2 * 7, 2)


def test_a_rare_place_weighs_more_than_a_common_one() -> None:
    weights_V = rarity([count_places("cat dog"), count_places("cat")])

    cat, dog = (max(count_places(word)) for word in ("cat", "dog"))
    assert weights_V.shape == (PLACES,)
    assert weights_V[dog] > weights_V[cat] == pytest.approx(1.0)


def test_each_block_of_each_text_has_length_one_and_an_empty_text_adds_nothing() -> None:
    counts = [count_places("one two two"), count_places("")]

    bags = weigh(counts, torch.ones(PLACES))

    assert float(bags.weights.square().sum()) == pytest.approx(2.0)
    assert bags.project(torch.ones(PLACES, 1))[1].item() == 0.0
