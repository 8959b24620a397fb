"""The polar factor against a singular value decomposition, and where there is no unique one."""

from unittest import mock

import pytest
import torch

from gcp.layers.orthonormal import polar_factor


def spectral(rows, columns, values):
    """A float64 matrix with these singular values, and its polar factor."""
    generator = torch.Generator().manual_seed(rows)
    shapes = (rows, len(values)), (columns, len(values))
    U, V = (torch.linalg.qr(torch.randn(s, generator=generator, dtype=torch.float64))[0] for s in shapes)
    return (U * torch.as_tensor(values, dtype=torch.float64)) @ V.mT, U @ V.mT


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 7), (7, 1), (16, 16), (12, 40), (40, 12)])
@pytest.mark.parametrize("decades", [0, 2, 4, 7])
def test_is_that_of_the_decomposition(rows, columns, decades):
    """At 7 decades the Gram matrix has lost the least singular value and the other way is taken."""
    A, Q = spectral(rows, columns, torch.logspace(0, -decades, min(rows, columns)))
    assert torch.allclose(polar_factor(A), Q, atol=1e-8)
    U, _, Vh = torch.linalg.svd(A.float().double(), full_matrices=False)
    found = polar_factor(A.float())
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), U @ Vh, atol=1e-6)


def test_at_the_size_of_a_gradient():
    A, Q = spectral(256, 2048, torch.logspace(0, -4, 256))
    assert torch.linalg.matrix_norm(polar_factor(A) - Q) < 1e-4


def test_a_gradient_of_full_rank_needs_no_singular_value_decomposition():
    A, Q = spectral(16, 64, torch.logspace(0, -3, 16))
    with mock.patch("torch.linalg.svd", side_effect=AssertionError):
        assert torch.allclose(polar_factor(A), Q, atol=1e-8)


@pytest.mark.parametrize(("rows", "columns"), [(8, 20), (20, 8), (8, 8)])
def test_without_full_rank_the_rows_are_orthonormal_all_the_same(rows, columns):
    A, Q = spectral(rows, columns, [3.0, 1.0, 0.5])
    P = polar_factor(A)
    small = P @ P.mT if rows <= columns else P.mT @ P
    assert torch.allclose(small, torch.eye(len(small), dtype=P.dtype), atol=1e-12)
    assert torch.allclose(P @ A.mT @ Q, Q @ A.mT @ Q, atol=1e-12)  # where A says something, it is U V^T
    assert torch.allclose((P * A).sum(), torch.tensor(4.5, dtype=P.dtype))  # the nuclear norm


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1e30, 1e300])
def test_any_size(size):
    A, Q = spectral(5, 9, [5.0, 4.0, 3.0, 2.0, 1.0])
    assert torch.allclose(polar_factor(A * size), Q, atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 5), (0, 5), (3, 0)])
def test_of_nothing_is_nothing(shape):
    assert torch.equal(polar_factor(torch.zeros(shape)), torch.zeros(shape))
