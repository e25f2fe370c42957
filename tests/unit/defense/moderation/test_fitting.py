"""Logistic regression against its own optimality condition."""

# ruff: noqa: N806 - tensor names carry their dimensions in capitals

from functools import partial

import pytest
import torch

from defense.errors import NumericalDivergenceError
from defense.moderation.fitting import fit_logistic


def _rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    features_BF = torch.randn(40, 3, generator=generator)
    labels_BK = (features_BF[:, :2] + 0.5 * torch.randn(40, 2, generator=generator) > 0).float()
    return features_BF, labels_BK


def test_the_gradient_of_the_penalised_loss_vanishes_at_the_fit() -> None:
    features_BF, labels_BK = _rows()

    fit = fit_logistic(partial(torch.matmul, features_BF), 3, labels_BK, inverse_penalty=2.0)

    error_BK = torch.sigmoid(features_BF @ fit.weights + fit.biases) - labels_BK
    gradient_FK = features_BF.T @ error_BK + fit.weights / 2.0
    assert gradient_FK.abs().max() < 1e-3
    assert error_BK.sum(0).abs().max() < 1e-3


def test_an_unknown_label_has_no_say() -> None:
    features_BF, labels_BK = _rows()
    partly_BK = labels_BK.clone()
    partly_BK[30:, 0] = torch.nan

    fit = fit_logistic(partial(torch.matmul, features_BF), 3, partly_BK, inverse_penalty=2.0)
    without = fit_logistic(
        partial(torch.matmul, features_BF[:30]), 3, labels_BK[:30, :1], inverse_penalty=2.0
    )

    assert torch.allclose(fit.weights[:, 0], without.weights[:, 0], atol=1e-3)


def test_a_fit_that_is_not_finite_is_an_error() -> None:
    features_BF = torch.full((4, 1), torch.nan)

    with pytest.raises(NumericalDivergenceError):
        fit_logistic(partial(torch.matmul, features_BF), 1, torch.ones(4, 1), inverse_penalty=1.0)
