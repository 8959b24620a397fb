"""Which eigenvalues are zero, and the helpers that never divide by one."""

import pytest
import torch

from gcp.errors import OptionError
from gcp.ops.covariance import null_threshold, without_noise
from gcp.ops.numerics import check_precision, compute_dtype, inverse_or_zero, output_dtype, sym


def eigh(P, floor=None):
    eigenvalues, V = torch.linalg.eigh(P)
    return without_noise(eigenvalues, floor), V


def matrix(values, dtype=torch.float64, n=None, seed=0):
    values = torch.tensor(values, dtype=torch.float64)
    n = len(values)
    V = torch.linalg.qr(torch.randn(1, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q
    return ((V * values) @ V.mT).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_becomes_an_exact_zero(dtype):
    eigenvalues, V = eigh(matrix([3.0, 1.0, 0.0, 0.0], dtype))
    assert eigenvalues[0, :2].tolist() == [0.0, 0.0]
    assert eigenvalues[0, 2:].tolist() == pytest.approx([1.0, 3.0])
    torch.testing.assert_close(V.mT @ V, torch.eye(4, dtype=dtype)[None], rtol=0, atol=1e-5)


def test_true_small_eigenvalues_stay():
    """64 eps l_max is signal."""
    eigenvalues, _ = eigh(matrix([1.0, 64 * 2.0**-52]))
    assert float(eigenvalues[0, 0]) > 0


def test_threshold():
    eigenvalues = torch.tensor([[0.0, 2.0], [1.0, 4.0]], dtype=torch.float64)
    eps = torch.finfo(torch.float64).eps
    assert null_threshold(eigenvalues).tolist() == [[32 * eps], [64 * eps]]
    assert null_threshold(eigenvalues, torch.tensor([1e-3, 0.0], dtype=torch.float64)).tolist() == [[1e-3], [64 * eps]]


def test_floor_zeroes_a_whole_matrix():
    eigenvalues, _ = eigh(matrix([1e-20, 2e-20]), torch.tensor([1e-15], dtype=torch.float64))
    assert not eigenvalues.any()


def test_inverse_or_zero():
    assert inverse_or_zero(torch.tensor([4.0, 0.0, -1.0])).tolist() == [0.25, 0.0, 0.0]


def test_sym():
    assert sym(torch.tensor([[[1.0, 2.0], [4.0, 3.0]]])).tolist() == [[[1.0, 3.0], [3.0, 3.0]]]


@pytest.mark.parametrize(
    ("dtype", "precision", "default", "expected"),
    [
        (torch.float16, None, "float32", torch.float32),
        (torch.bfloat16, None, "float64", torch.float64),
        (torch.float32, "float32", "float64", torch.float32),
        (torch.float64, "float32", "float32", torch.float64),
    ],
)
def test_compute_dtype(dtype, precision, default, expected):
    assert compute_dtype(torch.ones(1, dtype=dtype), precision, default) == expected


def test_output_dtype():
    dtypes = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    assert [output_dtype(torch.ones(1, dtype=dtype)) for dtype in dtypes] == [torch.float32] * 3 + [torch.float64]


@pytest.mark.parametrize("precision", ["float46", "double", 64, ["float32"]])
def test_bad_precision(precision):
    with pytest.raises(OptionError, match=r"precision is .*; allowed: .*float32, float64"):
        check_precision(precision)
