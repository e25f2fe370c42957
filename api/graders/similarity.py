"""How alike two texts are, from 0 to 1.

ROUGE-N and ROUGE-L are the F1 values of Lin (2004): of the n-grams, and of the longest common
subsequence. Words are runs of letters a-z and digits, in lower case and unstemmed, which is how the
`rouge-score` package reads texts.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from rapidfuzz import fuzz
from rapidfuzz.distance import LCSseq

from api.graders.schemas import Metric

_WORD: Final = re.compile(r"[a-z0-9]+")


def similarity(metric: Metric, text: str, reference: str) -> float:
    """Compare a text with its reference."""
    if metric == "fuzzy_match":
        return fuzz.ratio(text, reference) / 100
    words, expected = _WORD.findall(text.lower()), _WORD.findall(reference.lower())
    if metric == "rouge_l":
        return _f1(int(LCSseq.similarity(words, expected)), len(words), len(expected))
    return _rouge_n(words, expected, int(metric.removeprefix("rouge_")))


def _rouge_n(words: Sequence[str], expected: Sequence[str], n: int) -> float:
    found, wanted = _ngrams(words, n), _ngrams(expected, n)
    return _f1((found & wanted).total(), found.total(), wanted.total())


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


def _f1(common: int, found: int, wanted: int) -> float:
    return 2 * common / (found + wanted) if common else 0.0
