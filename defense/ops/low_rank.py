"""Sums of products of tall and wide matrices, brought back into the factors of an adapter.

All in float64: the result is the difference of matrices that are nearly alike.

Shapes: O outputs, I inputs, R the adapter's rank, K the inner dimension of what is given.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

# A subspace has been found once another iteration adds less than this share of what it holds.
_CONVERGED = 1e-9
_LONGEST_ITERATION = 100


@dataclass(frozen=True)
class Factors:
    """A matrix as `b_OR @ a_RI`.

    Attributes:
        a_RI: Float64, as the other.
        b_OR: See above.
        lost_share: Frobenius norm of what the rank could not hold, as a share of the whole.
    """

    a_RI: Tensor
    b_OR: Tensor
    lost_share: float


def low_rank_factors(left_OK: Tensor, right_KI: Tensor, near: Factors) -> Factors:
    """The best approximation of `left @ right` by the rank of `near`; exact where that suffices.

    Truncated singular value decomposition, without the O x I product. A matrix has many factors;
    those returned are turned and scaled towards `near`, so that a mixture of both is one of
    comparable things.

    Args:
        left_OK: Float64, as the other.
        right_KI: See above.
        near: The factors to be replaced; their `lost_share` is not used.
    """
    rank = len(near.a_RI)
    basis_OK, left_KK = torch.linalg.qr(left_OK)
    basis_IK, right_KK = torch.linalg.qr(right_KI.T)
    u, sizes, vh = torch.linalg.svd(left_KK @ right_KK.T)
    whole, kept = sizes.norm(), sizes[:rank]
    lost = (sizes[rank:].norm() / whole).item() if whole else 0.0
    a_RI, b_OR = torch.zeros_like(near.a_RI), torch.zeros_like(near.b_OR)
    a_RI[: len(kept)] = kept.sqrt()[:, None] * (vh[: len(kept)] @ basis_IK.T)
    b_OR[:, : len(kept)] = (basis_OK @ u[:, : len(kept)]) * kept.sqrt()
    return _turned(Factors(a_RI, b_OR, lost), near)


def leading_space(matrix_OJ: Tensor, start_OK: Tensor) -> Tensor:
    """An orthonormal basis of about the matrix's K leading left singular vectors.

    Subspace iteration: without the decomposition of the whole matrix, and without drawing a start.

    Args:
        matrix_OJ: Float64, as the other.
        start_OK: Where to look first.
    """
    basis_OK: Tensor = torch.linalg.qr(start_OK).Q
    within = torch.zeros((), dtype=matrix_OJ.dtype, device=matrix_OJ.device)
    for _ in range(_LONGEST_ITERATION):
        seen_KJ = basis_OK.T @ matrix_OJ
        before, within = within, seen_KJ.square().sum()
        if within - before <= _CONVERGED * within:
            break
        basis_OK = torch.linalg.qr(matrix_OJ @ seen_KJ.T).Q
    return basis_OK


def column_space(left_OK: Tensor, right_KI: Tensor) -> tuple[Tensor, Tensor]:
    """Left singular vectors of `left @ right`, and their singular values above rounding."""
    basis_OK, left_KK = torch.linalg.qr(left_OK)
    u, sizes, _ = torch.linalg.svd(left_KK @ right_KI, full_matrices=False)
    rounding = torch.finfo(torch.float32).eps * sizes[0]
    real = int((sizes > rounding).sum())
    return basis_OK @ u[:, :real], sizes[:real]


def squared_product_norm(left_OK: Tensor, right_KI: Tensor) -> float:
    """Squared Frobenius norm of `left @ right`, without the O x I product.

    It is the sum over all entries of `(left^T left) * (right right^T)`, two K x K matrices.
    """
    left_KK, right_KK = left_OK.T @ left_OK, right_KI @ right_KI.T
    # Rounding could bring a product that is zero below it.
    return max(0.0, float((left_KK * right_KK).sum()))


def _turned(factors: Factors, near: Factors) -> Factors:
    """The same product, in the scale of `near` and rotated as close to it as it goes."""
    a_RI, b_OR = factors.a_RI, factors.b_OR
    sizes = near.a_RI.norm() * b_OR.norm(), near.b_OR.norm() * a_RI.norm()
    factor = (sizes[0] / sizes[1]).sqrt() if sizes[0] and sizes[1] else torch.ones_like(sizes[0])
    a_RI, b_OR = a_RI * factor, b_OR / factor
    # Orthogonal Procrustes: the rotation that brings both factors nearest to their namesakes.
    u, _, vh = torch.linalg.svd(a_RI @ near.a_RI.T + b_OR.T @ near.b_OR)
    rotation = vh.T @ u.T
    return Factors(rotation @ a_RI, b_OR @ rotation.T, factors.lost_share)
