"""Training of the head from labelled texts, and predictions on texts left out of it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from defense.moderation.encoder import TextEncoder
from defense.moderation.fitting import LinearFit, fit_logistic
from defense.moderation.head import (
    CALIBRATED_QUESTIONS,
    CONTENT_LABELS,
    HARMFUL_ANSWER,
    HARMFUL_CONTENT,
    HARMFUL_REQUEST,
    QUESTIONS,
    REFUSAL,
    REQUEST_LIKE,
    WORD_SALAD,
    WORDED_QUESTIONS,
    ModerationHead,
)
from defense.moderation.ngrams import PLACES, Bags, count_places, rarity, weigh
from defense.moderation.protocol import BEAVERTAILS_CATEGORIES
from defense.moderation.training_rows import LabelledText

DENSE_INVERSE_PENALTY = 0.001
WORDED_INVERSE_PENALTY = 5.0
QUESTION_GROUPS = (
    (HARMFUL_CONTENT, *CONTENT_LABELS),
    (HARMFUL_REQUEST, *BEAVERTAILS_CATEGORIES),
    (HARMFUL_ANSWER, REFUSAL),
    (WORD_SALAD,),
    (REQUEST_LIKE,),
)
SMALLEST_DEVIATION = 0.02
CALIBRATION_INVERSE_PENALTY = 100.0


@dataclass(frozen=True)
class TextViews:
    """Labelled texts, already encoded. Shape legend as in `defense.moderation.head`."""

    texts: Sequence[LabelledText]
    features_BF: Tensor
    counts: Sequence[Counter[int]]

    def __len__(self) -> int:
        """How many texts."""
        return len(self.texts)

    def pick(self, rows: Sequence[int]) -> "TextViews":
        """The texts at the given places."""
        return TextViews(
            [self.texts[row] for row in rows],
            self.features_BF[list(rows)],
            [self.counts[row] for row in rows],
        )

    def labels(self, questions: Sequence[str]) -> Tensor:
        """Labels (B, K), NaN where unknown."""
        rows = [[item.labels.get(name, np.nan) for name in questions] for item in self.texts]
        return torch.tensor(rows, dtype=torch.float32)


def view_texts(encoder: TextEncoder, texts: Sequence[LabelledText]) -> TextViews:
    """Encode texts for training."""
    features_BF = encoder.features([item.text for item in texts])
    return TextViews(texts, features_BF, [count_places(item.text) for item in texts])


def fit_head(views: TextViews) -> ModerationHead:
    """Fit every question on the given texts; the calibration is left at the identity."""
    deviation_F, mean_F = torch.std_mean(views.features_BF, dim=0)
    scale_F = 1 / deviation_F.clamp(min=SMALLEST_DEVIATION)
    normal_BF = (views.features_BF - mean_F) * scale_F
    dense = _fit_dense(normal_BF, views)
    worded, rarity_V = _fit_worded(views)
    return ModerationHead(
        mean_F=mean_F,
        scale_F=scale_F,
        dense_FK=dense.weights,
        dense_bias_K=dense.biases,
        rarity_V=rarity_V,
        worded_VN=worded.weights,
        worded_bias_N=worded.biases,
        calibration_2C=torch.stack(
            [torch.ones(len(CALIBRATED_QUESTIONS)), torch.zeros(len(CALIBRATED_QUESTIONS))]
        ),
    )


def predict(head: ModerationHead, views: TextViews) -> dict[str, Tensor]:
    """Raw logits of each calibrated question on encoded texts."""
    return head.raw_logits(views.features_BF, bags_of(head, views.counts))


def bags_of(head: ModerationHead, counts: Sequence[Counter[int]]) -> Bags:
    """Counts, weighed as the head was trained."""
    return weigh(counts, head.rarity_V)


def fold_numbers(texts: Sequence[LabelledText], folds: int, seed: int) -> list[int]:
    """A fold for each text; equal texts share one, and each source is spread evenly."""
    generator = np.random.default_rng(seed)
    by_source: dict[tuple[str, tuple[tuple[str, int], ...]], list[str]] = {}
    for item in texts:
        stratum = (item.source, tuple(sorted(item.labels.items())))
        by_source.setdefault(stratum, []).append(item.text)
    fold_of: dict[str, int] = {}
    turn = 0
    for stratum_texts in by_source.values():
        distinct = sorted(set(stratum_texts) - fold_of.keys())
        for place in generator.permutation(len(distinct)):
            fold_of[distinct[place]] = turn % folds
            turn += 1
    return [fold_of[item.text] for item in texts]


def out_of_fold_logits(views: TextViews, folds: int, seed: int) -> dict[str, Tensor]:
    """Logits of every text from a head that was fitted without its fold."""
    numbers = fold_numbers(views.texts, folds, seed)
    logits = {name: torch.full((len(views),), torch.nan) for name in CALIBRATED_QUESTIONS}
    for training, held_out in splits(numbers, folds):
        head = fit_head(views.pick(training))
        for name, values_B in predict(head, views.pick(held_out)).items():
            logits[name][held_out] = values_B
    return logits


def calibrated(head: ModerationHead, views: TextViews, folds: int, seed: int) -> ModerationHead:
    """The head with scales and shifts fitted on out-of-fold logits."""
    logits = out_of_fold_logits(views, folds, seed)
    labels_BC = views.labels(CALIBRATED_QUESTIONS)
    pairs = []
    for index, name in enumerate(CALIBRATED_QUESTIONS):
        fit = fit_logistic(
            partial(torch.matmul, logits[name][:, None]),
            1,
            labels_BC[:, index : index + 1],
            inverse_penalty=CALIBRATION_INVERSE_PENALTY,
        )
        pairs.append((float(fit.weights), float(fit.biases)))
    return replace(head, calibration_2C=torch.tensor(pairs).T.contiguous())


def _fit_dense(normal_BF: Tensor, views: TextViews) -> LinearFit:
    """Fit each group of questions on the texts that answer any of them."""
    labels_BK = views.labels(QUESTIONS)
    weights_FK = torch.zeros(normal_BF.shape[1], len(QUESTIONS))
    biases_K = torch.zeros(len(QUESTIONS))
    for group in QUESTION_GROUPS:
        columns = [QUESTIONS.index(name) for name in group]
        rows = _answered(labels_BK[:, columns])
        fit = fit_logistic(
            partial(torch.matmul, normal_BF[rows]),
            normal_BF.shape[1],
            labels_BK[rows][:, columns],
            inverse_penalty=DENSE_INVERSE_PENALTY,
        )
        weights_FK[:, columns], biases_K[columns] = fit.weights, fit.biases
    return LinearFit(weights_FK, biases_K)


def _fit_worded(views: TextViews) -> tuple[LinearFit, Tensor]:
    labels_BN = views.labels(WORDED_QUESTIONS)
    rows = _answered(labels_BN).tolist()
    counts = [views.counts[row] for row in rows]
    rarity_V = rarity(counts)
    bags = weigh(counts, rarity_V)
    fit = fit_logistic(
        bags.project, PLACES, labels_BN[rows], inverse_penalty=WORDED_INVERSE_PENALTY
    )
    return fit, rarity_V


def _answered(labels_BK: Tensor) -> Tensor:
    """Places of the texts of which at least one label is known."""
    return (~torch.isnan(labels_BK)).any(dim=1).nonzero().flatten()


def splits(numbers: Sequence[int], folds: int) -> Iterator[tuple[list[int], list[int]]]:
    """For each fold, the places outside it and those inside it."""
    for fold in range(folds):
        training = [row for row, number in enumerate(numbers) if number != fold]
        held_out = [row for row, number in enumerate(numbers) if number == fold]
        yield training, held_out
