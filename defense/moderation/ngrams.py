"""Hashed pieces of words, as a second view beside the encoder's.

The encoder knows what a text is about; which very words it uses ("I can't", an obscure slur, a
spelling with a zero in it) shows better in groups of letters. Two blocks are hashed apart: letters
(2 to 5 of them inside a word and its borders) and whole words.

Shape legend: B texts, V hash places.
"""

import math
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LETTER_PLACES = 2**16
WORD_PLACES = 2**15
PLACES = LETTER_PLACES + WORD_PLACES
LETTER_SIZES = range(2, 6)
LONGEST_TEXT = 6000
WORD = re.compile(r"\w+(?:['\u2019]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class Bags:
    """Weighted hash places of several texts, one after another.

    Attributes:
        places: Hash places, all texts in a row.
        weights: One weight per place; each block of each text has length 1.
        offsets: Where each text begins.
    """

    places: Tensor
    weights: Tensor
    offsets: Tensor

    def project(self, table_VK: Tensor) -> Tensor:
        """Weighted sums of the table's rows, one per text, (B, K)."""
        return torch.nn.functional.embedding_bag(
            self.places,
            table_VK,
            self.offsets,
            mode="sum",
            per_sample_weights=self.weights.to(table_VK.dtype),
        )


def count_places(text: str) -> Counter[int]:
    """How often each hash place occurs in a text."""
    counts: Counter[int] = Counter()
    for word, times in Counter(WORD.findall(text[:LONGEST_TEXT].lower())).items():
        counts[LETTER_PLACES + zlib.crc32(word.encode()) % WORD_PLACES] += times
        bordered = f" {word} "
        for size in LETTER_SIZES:
            for start in range(max(1, len(bordered) - size + 1)):
                piece = bordered[start : start + size].encode()
                counts[zlib.crc32(piece) % LETTER_PLACES] += times
    return counts


def rarity(counts: Sequence[Counter[int]]) -> Tensor:
    """Inverse document frequency of every place, (V,)."""
    documents = torch.zeros(PLACES)
    for bag in counts:
        documents[list(bag)] += 1
    return torch.log((1 + len(counts)) / (1 + documents)) + 1


def weigh(counts: Sequence[Counter[int]], rarity_V: Tensor) -> Bags:
    """Weigh counts by rarity and scale each block of each text to length 1."""
    places: list[int] = []
    weights: list[float] = []
    offsets: list[int] = []
    rarities = rarity_V.tolist()
    for bag in counts:
        offsets.append(len(places))
        raw = {place: (1 + math.log(times)) * rarities[place] for place, times in bag.items()}
        letters = math.sqrt(sum(w * w for p, w in raw.items() if p < LETTER_PLACES))
        words = math.sqrt(sum(w * w for p, w in raw.items() if p >= LETTER_PLACES))
        places.extend(raw)
        weights.extend(w / (letters if p < LETTER_PLACES else words) for p, w in raw.items())
    return Bags(
        torch.tensor(places, dtype=torch.long),
        torch.tensor(weights, dtype=torch.float32),
        torch.tensor(offsets, dtype=torch.long),
    )
