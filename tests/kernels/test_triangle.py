"""The upper triangle: order of numpy's triu_indices, and back."""

import numpy
import pytest
import torch

from gcp.kernels.triangle import pack, triangle_size, unpack


@pytest.mark.parametrize("d", [1, 2, 3, 7, 64])
def test_order(d):
    A = torch.randn(2, d, d, dtype=torch.float64)
    rows, columns = numpy.triu_indices(d)
    assert triangle_size(d) == len(rows)
    assert numpy.array_equal(pack(A).numpy(), A.numpy()[:, rows, columns])


@pytest.mark.parametrize("d", [1, 2, 5, 33])
def test_unpack_is_the_inverse(d):
    A = torch.randn(2, d, d, dtype=torch.float64)
    A = A + A.mT
    assert torch.equal(unpack(pack(A)), A)


def test_sizes_up_to_a_thousand():
    """The root of 2n is between d and d + 1; rounding must not move it."""
    for d in range(1, 1001):
        assert int((2 * triangle_size(d)) ** 0.5) == d


def test_gradient():
    A = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(pack, A) and torch.autograd.gradgradcheck(pack, A)
    (g,) = torch.autograd.grad(pack(A), A, torch.ones(2, 6, dtype=torch.float64))
    assert torch.equal(g, torch.ones(2, 3, 3, dtype=torch.float64).triu())
