"""A X + X A = C against the solution in the eigenbasis."""

import pytest
import torch

from gcp.ops.lyapunov import chebyshev, cubic_step, solve


def problem(m, n=8, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    V = torch.linalg.qr(torch.randn(2, n, n, generator=generator, dtype=torch.float64)).Q
    values = torch.logspace(0, 1, n, base=m, dtype=torch.float64)
    C = torch.randn(2, n, n, generator=generator, dtype=torch.float64)
    C = C + C.mT
    X = V @ ((V.mT @ C @ V) / (values[:, None] + values[None, :])) @ V.mT
    A = (V * values) @ V.mT
    return A.to(dtype), C.to(dtype), X


def error(got, expected):
    return float((got.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("tolerance", [1e-4, 1e-8, 1e-13])
@pytest.mark.parametrize("m", [1e-4, 1e-2, 0.1, 0.5, 0.99, 1.0])
def test_solve(m, tolerance):
    A, C, X = problem(m)
    assert error(solve(A, C, m, tolerance), X) < max(10 * tolerance, 1e-12 / m)


@pytest.mark.parametrize("m", [1e-2, 0.1])
def test_cubic_step_keeps_the_solution(m):
    A, C, X = problem(m)
    A2, C2, m2 = cubic_step(A, C, m)
    assert error(A2 @ X + X @ A2, C2) < 1e-12
    eigenvalues = torch.linalg.eigvalsh(A2)
    assert m2 > 2 * m
    assert m2 - 1e-12 <= float(eigenvalues.min()) and float(eigenvalues.max()) <= 1 + 1e-12


def test_chebyshev_in_float32():
    A, C, X = problem(0.2, dtype=torch.float32)
    assert error(chebyshev(A, C, 0.2, 1e-6), X) < 1e-5
