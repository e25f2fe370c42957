"""How alike two texts, or their vectors, are, from 0 to 1.

ROUGE-N and ROUGE-L are the F1 values of Lin (2004): of the n-grams, and of the longest common
subsequence. Words are runs of letters a-z and digits, in lower case and unstemmed, which is how the
`rouge-score` package reads texts. The metrics of machine translation read words of any script.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from rapidfuzz import fuzz
from rapidfuzz.distance import LCSseq

from api.graders.schemas import WordMetric

_WORD: Final = re.compile(r"[a-z0-9]+")
_WORD_OF_ANY_SCRIPT: Final = re.compile(r"\w+")


def cosine(vector: Sequence[float], reference: Sequence[float]) -> float:
    """Compare two vectors of length 1; those that point apart are not alike at all."""
    product = sum(one * other for one, other in zip(vector, reference, strict=True))
    return min(max(product, 0.0), 1.0)


def similarity(metric: WordMetric, text: str, reference: str) -> float:
    """Compare a text with its reference."""
    if metric == "fuzzy_match":
        return fuzz.ratio(text, reference) / 100
    if metric in {"bleu", "gleu", "meteor"}:
        return _translation(metric, text, reference)
    words, expected = _WORD.findall(text.lower()), _WORD.findall(reference.lower())
    if metric == "rouge_l":
        return _f1(int(LCSseq.similarity(words, expected)), len(words), len(expected))
    return _rouge_n(words, expected, int(metric.removeprefix("rouge_")))


def _translation(metric: WordMetric, text: str, reference: str) -> float:
    from api.graders import translation_metrics  # noqa: PLC0415  (slow, and needed by few)

    words, expected = (_WORD_OF_ANY_SCRIPT.findall(part.lower()) for part in (text, reference))
    match metric:
        case "bleu":
            return translation_metrics.bleu(words, expected)
        case "gleu":
            return translation_metrics.gleu(words, expected)
        case _:
            return translation_metrics.meteor(words, expected)


def _rouge_n(words: Sequence[str], expected: Sequence[str], n: int) -> float:
    found, wanted = _ngrams(words, n), _ngrams(expected, n)
    return _f1((found & wanted).total(), found.total(), wanted.total())


def _ngrams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[start : start + n]) for start in range(len(words) - n + 1))


def _f1(common: int, found: int, wanted: int) -> float:
    return 2 * common / (found + wanted) if common else 0.0
