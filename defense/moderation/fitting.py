"""Logistic regression for many yes-or-no questions at once, by L-BFGS.

A missing label is written as NaN and left out of that question's loss. The penalty is that of
scikit-learn: half the squared weights, divided by `inverse_penalty`, against the summed loss.

Shape legend: B texts, F features, K questions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from defense.errors import NumericalDivergenceError

ITERATIONS = 120


@dataclass(frozen=True)
class LinearFit:
    """Weights (F, K) and biases (K,) of K logistic regressions."""

    weights: Tensor
    biases: Tensor


def fit_logistic(
    project: Callable[[Tensor], Tensor],
    feature_count: int,
    labels_BK: Tensor,
    *,
    inverse_penalty: float,
) -> LinearFit:
    """Fit K questions over the same texts.

    Args:
        project: Weights (F, K) to logits without bias (B, K): a matrix product or its sparse twin.
        feature_count: F.
        labels_BK: 1, 0, or NaN for unknown.
        inverse_penalty: Larger trusts the rows more.

    Raises:
        NumericalDivergenceError: The loss became infinite or undefined.
    """
    known_BK = ~torch.isnan(labels_BK)
    target_BK = torch.nan_to_num(labels_BK)
    weights_FK = torch.zeros(feature_count, labels_BK.shape[1], requires_grad=True)
    biases_K = torch.zeros(labels_BK.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights_FK, biases_K],
        max_iter=ITERATIONS,
        history_size=10,
        tolerance_grad=1e-4,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits_BK = project(weights_FK) + biases_K
        losses_BK = torch.nn.functional.binary_cross_entropy_with_logits(
            logits_BK, target_BK, reduction="none"
        )
        penalty = weights_FK.square().sum() / (2 * inverse_penalty)
        loss = (losses_BK * known_BK).sum() + penalty
        if not torch.isfinite(loss):
            raise NumericalDivergenceError("the loss of the moderation head is not finite")
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return LinearFit(weights_FK.detach(), biases_K.detach())
