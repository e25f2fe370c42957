import pytest
import torch
from torch import Tensor

from defense.ops.low_rank import (
    Factors,
    column_space,
    leading_space,
    low_rank_factors,
    squared_product_norm,
)


def matrix(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def near(outputs: int, inputs: int, rank: int, seed: int = 0) -> Factors:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return Factors(draw(rank, inputs), draw(outputs, rank), 0.0)


def test_a_product_that_fits_is_kept_whole() -> None:
    # Four columns, but the third and fourth repeat the first two: the rank is two.
    left = matrix((1, 0, 1, 0), (0, 2, 0, 2), (0, 0, 0, 0))
    right = matrix((1, 1), (0, 1), (1, 0), (2, 0))

    found = low_rank_factors(left, right, near(3, 2, rank=2))

    assert torch.allclose(found.b_OR @ found.a_RI, left @ right)
    assert found.lost_share == pytest.approx(0, abs=1e-12)


def test_of_one_that_does_not_fit_the_largest_part_stays_and_the_rest_is_told() -> None:
    found = low_rank_factors(matrix((4, 0), (0, 3)), torch.eye(2).double(), near(2, 2, rank=1))

    assert torch.allclose(found.b_OR @ found.a_RI, matrix((4, 0), (0, 0)))
    assert found.lost_share == pytest.approx(3 / 5)


def test_a_rank_larger_than_the_matrix_is_filled_with_zeros() -> None:
    left, right = matrix((2,)), matrix((1, 2, 3))

    found = low_rank_factors(left, right, near(1, 3, rank=4))

    assert found.a_RI.shape == (4, 3)
    assert found.b_OR.shape == (1, 4)
    assert torch.allclose(found.b_OR @ found.a_RI, left @ right)
    assert found.lost_share == 0


def test_nothing_is_made_of_nothing() -> None:
    found = low_rank_factors(matrix((0,), (0,)), matrix((0, 0)), near(2, 2, rank=1))

    assert not (found.b_OR @ found.a_RI).any()
    assert found.lost_share == 0


def test_the_factors_stay_near_those_they_replace() -> None:
    # Factors of equal size in both: of the same product, those found are the given ones themselves.
    own = Factors(matrix((3, 0, 0), (0, 1, 0)), matrix((3, 0), (0, 1)), 0.0)

    found = low_rank_factors(own.b_OR, own.a_RI, own)

    assert torch.allclose(found.a_RI, own.a_RI)
    assert torch.allclose(found.b_OR, own.b_OR)


def test_the_factors_take_the_scale_of_those_they_replace() -> None:
    own = near(4, 5, rank=2)
    larger_b = Factors(own.a_RI / 10, own.b_OR * 10, 0.0)

    found = low_rank_factors(own.b_OR, own.a_RI, larger_b)

    ratio = (found.b_OR.norm() / found.a_RI.norm()).item()
    assert ratio == pytest.approx((larger_b.b_OR.norm() / larger_b.a_RI.norm()).item())


def test_the_column_space_leaves_out_directions_without_size() -> None:
    # Columns (3, 0, 0) twice and (0, 0, 4) once; the last column of the left meets only zeros.
    left = matrix((3, 0, 1), (0, 0, 1), (0, 4, 1))
    right = matrix((1, 0), (0, 1), (0, 0))

    basis, sizes = column_space(left, right)

    assert sizes.tolist() == pytest.approx([4, 3])
    assert torch.allclose(basis.abs(), matrix((0, 1), (0, 0), (1, 0)))


def test_the_column_space_of_zero_is_empty() -> None:
    basis, sizes = column_space(matrix((0,), (0,)), matrix((1, 2)))

    assert basis.shape == (2, 0)
    assert len(sizes) == 0


def test_the_leading_space_is_found_from_a_start_that_hardly_sees_it() -> None:
    wide = torch.diag(torch.tensor([1.0, 5, 2, 4], dtype=torch.float64))
    start = matrix((1, 0), (1e-3, 0), (0, 1), (0, 1e-3))

    basis = leading_space(wide, start)

    assert torch.allclose(basis.T @ basis, torch.eye(2).double())
    # The second and the fourth direction, in whatever basis.
    assert torch.allclose(basis @ basis.T, torch.diag(matrix((0, 1, 0, 1))[0]), atol=1e-4)


def test_the_norm_of_a_product_is_that_of_the_matrix() -> None:
    # (1, 2) times (3, 4) is ((3, 4), (6, 8)), with squares 9 + 16 + 36 + 64.
    assert squared_product_norm(matrix((1,), (2,)), matrix((3, 4))) == pytest.approx(125)


def test_the_norm_of_a_product_that_vanishes_is_not_below_zero() -> None:
    left = matrix((1e8, 1e8, 1), (3e7, 3e7, 0))
    right = matrix((0.3, 0.7), (-0.3, -0.7), (0, 0))

    assert squared_product_norm(left, right) >= 0
