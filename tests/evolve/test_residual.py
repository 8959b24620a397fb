"""Singular values of residual blocks, Id + B A."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from gcp.evolve import trace
from gcp.evolve.policy.budget import Bounds
from gcp.evolve.policy.policies import SpectrumPolicy
from gcp.evolve.policy.residual import residual_values


class Block(nn.Module):
    """x + B A x between two layers, with a convolution of `kernel` pixels a side, over maps that wrap around."""

    def __init__(self, kernel=None):
        super().__init__()
        self.kernel = kernel
        shape = () if kernel is None else (kernel, kernel)
        self.first = nn.Linear(3, 8) if kernel is None else nn.Conv2d(3, 8, 1)
        self.a, self.b = (nn.Parameter(torch.randn(*size, *shape) * 0.1) for size in ((6, 8), (8, 6)))
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        if self.kernel is None:
            x = self.first(x)
            return self.last(x + functional.linear(functional.linear(x, self.a), self.b))
        x, half = self.first(x), self.kernel // 2
        x = x + functional.conv2d(functional.conv2d(x, self.a, padding=half), self.b, padding=half)
        return self.last(x.mean((2, 3)))


def dimension_of(model, images):
    return {"hidden": next(each for each in trace(model, images).values() if each.width == 6)}


def test_of_a_linear_block_by_hand():
    torch.manual_seed(0)
    model = Block()
    values, largest = residual_values(model, dimension_of(model, torch.randn(4, 3)))["hidden"]
    s = torch.linalg.svdvals(torch.eye(8).double() + (model.b.double() @ model.a.double()).detach())
    torch.testing.assert_close(values, (s - 1).abs().sort(descending=True).values[:6])
    assert largest == pytest.approx(float(s.max()))
    assert len(values) == 6 and (values.diff() <= 0).all()


def test_of_a_convolution_it_is_that_of_the_operator_on_a_map_that_wraps_around():
    torch.manual_seed(0)
    model = Block(3)
    values, largest = residual_values(model, dimension_of(model, torch.randn(2, 3, 4, 4)))["hidden"]
    basis = torch.eye(8 * 16, dtype=torch.float64).view(-1, 8, 4, 4)
    a, b = model.a.detach().double(), model.b.detach().double()

    def wrapped(x, weight):
        return functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="circular"), weight)

    s = torch.linalg.svdvals((basis + wrapped(wrapped(basis, a), b)).flatten(1))
    assert largest == pytest.approx(float(s.max()))
    squares = (s - 1).square().sum()  # of all frequencies; the block moves no more than six directions in each
    assert 16 * values.square().sum() <= squares * 1.0001


def test_a_block_beside_which_the_identity_is_large_shrinks():
    """Its weights alone have a flat spectrum, as it is."""
    torch.manual_seed(0)
    model, images = Block(), torch.randn(8, 3)
    with torch.no_grad():
        model.a.copy_(torch.eye(6, 8) * 0.1)
        model.b.copy_(torch.eye(8, 6) * 0.1)
    by = {}
    for signal in ("weights", "residual"):
        decisions = SpectrumPolicy((), Bounds(1, None, 1.5), signal, 0.1, 2.0)(model, [images], 1)
        by[signal] = {decision.before: decision.after for decision in decisions}
    assert 6 not in by["weights"] and by["residual"][6] == 4
