"""The published factors K themselves, and their overflow check."""

import mpmath
import pytest
import torch

from gcp.gradients.base import overflow_check
from gcp.gradients.pade import Pade, coefficients
from gcp.gradients.taylor import Taylor
from gcp.gradients.truncate import Truncate


def factor(rule, x):
    """K of the pair (1, x)."""
    return float(rule.factor(torch.tensor([[1.0, x]], dtype=torch.float64))[0, 0, 1])


@pytest.mark.parametrize("gap", [0.9, 0.5, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6])
def test_pade_coefficients_give_the_exact_factor(gap):
    numerator, denominator = coefficients()
    assert len(numerator) == len(denominator) == 51
    with mpmath.workdps(60):
        x = 1 - mpmath.mpf(gap)
        value = mpmath.polyval(numerator[::-1], x) / mpmath.polyval(denominator[::-1], x)
        assert float(abs(value * gap - 1)) < 1e-9


@pytest.mark.parametrize("gap", [0.9, 0.5, 0.1, 1e-2, 1e-3])
def test_pade_factor(gap):
    assert factor(Pade().published(), 1 - gap) == pytest.approx(1 / gap, rel=1e-9)


def test_factors_are_antisymmetric_with_zero_diagonal():
    eigenvalues = torch.tensor([[3.0, 0.5, 1.7]], dtype=torch.float64)
    for rule in (Taylor(), Truncate(), Truncate(threshold=0.4)):
        K = rule.published().factor(eigenvalues)
        assert torch.equal(K, -K.mT)


def test_pade_factor_of_equal_eigenvalues_has_a_zero_diagonal():
    """Else the overflow check finds no finite entry and a constant map gives NaN."""
    K = Pade().published().factor(torch.ones(1, 3, dtype=torch.float64))
    assert not K.diagonal(dim1=1, dim2=2).any()


@pytest.mark.parametrize("degree", [0, 1, 100])
def test_taylor_factor(degree):
    assert factor(Taylor(degree=degree).published(), 0.9) == pytest.approx(
        sum(0.9**i for i in range(degree + 1)), rel=1e-13
    )


def test_truncated_factor():
    assert factor(Truncate(threshold=3.0).published(), 0.5) == pytest.approx(2.0)
    assert factor(Truncate(threshold=3.0).published(), 0.9) == 3.0
    assert factor(Truncate(threshold=3.0).published(), 1.1) == -3.0
    assert factor(Truncate().published(), 1.0) == 1e10


def test_overflow_check_takes_the_extremes_of_the_batch():
    inf = float("inf")
    K = torch.tensor([[[0.0, inf], [-inf, 0.0]], [[0.0, -7.0], [5.0, 0.0]]])
    assert overflow_check(K).tolist() == [[[0.0, 5.0], [-7.0, 0.0]], [[0.0, -7.0], [5.0, 0.0]]]
