"""Rounded products: bit by bit, and what the options cost."""

import math

import numpy
import pytest
import torch

from gcp.errors import OptionError
from gcp.heads import create_head
from gcp.ops.products import product, product_plus, rounded


def conditioned(channels: int, side: int, condition: float) -> torch.Tensor:
    """Features (2, channels, side, side) float64 whose covariance has a log-uniform spectrum; float32 values."""
    generator = torch.Generator().manual_seed(2)
    samples = torch.randn(2, side * side, channels, generator=generator, dtype=torch.float64)
    V, _ = torch.linalg.qr(samples - samples.mean(1, keepdim=True))
    U, _ = torch.linalg.qr(torch.randn(2, channels, channels, generator=generator, dtype=torch.float64))
    roots = torch.logspace(0, -0.5 * math.log10(condition), channels, dtype=torch.float64)
    return ((U * roots) @ V.mT * side).reshape(2, channels, side, side).float().double()


def by_hand(values, bits):
    """Nearest number with `bits` bits behind the leading one, ties to even, in float64 arithmetic."""
    mantissa, exponent = numpy.frexp(values.astype(numpy.float64))
    return numpy.ldexp(numpy.rint(mantissa * 2 ** (bits + 1)), exponent - bits - 1)


@pytest.mark.parametrize(("kind", "bits"), [("tf32", 10), ("bf16", 7)])
def test_rounding(kind, bits):
    x = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-20, 20, 10_000)
    ties = 1 + (torch.arange(64.0) + 0.5) * 2.0**-bits
    x = torch.cat([x, ties, -ties, torch.tensor([0.0, -0.0, 1.0, 2.0 - 2.0**-23])])
    assert numpy.array_equal(rounded(x, kind).numpy(), by_hand(x.numpy(), bits).astype(numpy.float32))


def test_factors_are_rounded_and_sums_are_not():
    A, B = (torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    for kind in ("tf32", "bf16"):
        assert torch.equal(product(A, B, kind), rounded(A, kind) @ rounded(B, kind))
        expected = 1.5 * A - 0.5 * (rounded(A, kind) @ rounded(B, kind))
        torch.testing.assert_close(product_plus(A, A, B, 1.5, -0.5, kind), expected)
    assert torch.equal(product(A, B), A @ B) and torch.equal(
        product(A.double(), B.double(), "bf16"), A.double() @ B.double()
    )


@pytest.mark.parametrize("name", ["newton_schulz", "polar_express"])
@pytest.mark.parametrize(("kind", "output", "gradient"), [("tf32", 3e-3, 3e-2), ("bf16", 3e-2, 3e-1)])
@pytest.mark.parametrize("side", ["channel", "sample"])
def test_cost_in_accuracy(name, kind, output, gradient, side):
    """Between nothing and what the documentation says, on a spectrum of three decades."""
    shape = (2, 12, 7, 7) if side == "channel" else (2, 60, 4, 4)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * torch.logspace(0, -1.5, shape[1], dtype=torch.float64)[:, None, None]

    steps = {"lower": 0.05, "steps": 4} if name == "polar_express" else {}

    def evaluate(**options):
        leaf = x.float().requires_grad_()
        out = create_head(name, shape[1], side=side, **steps, **options)(leaf)
        g = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return out.detach(), torch.autograd.grad(out, leaf, g.float())[0]

    for ours, theirs, bound in zip(evaluate(products=kind), evaluate(), (output, gradient), strict=True):
        assert 1e-6 < float((ours - theirs).norm() / theirs.norm()) < bound


def test_where_rounding_ends():
    """At condition number 1e5 small eigenvalues turn negative and the steps leave the interval: never quietly wrong."""
    x = conditioned(128, 12, 1e5).float().requires_grad_()
    out = create_head("polar_express", 128, products="tf32")(x)
    gradient = torch.autograd.grad(out.sum(), x)[0]
    assert not gradient.isfinite().all()


def test_float64_is_never_rounded():
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64)
    for name in ("newton_schulz", "polar_express"):
        assert torch.equal(create_head(name, 6, products="tf32")(x), create_head(name, 6)(x))


def test_a_wrong_name():
    with pytest.raises(OptionError, match=r"products .*'polar_express' .*'tf23'; allowed: .*full, tf32, bf16"):
        create_head("polar_express", 6, products="tf23")


def test_combinations_that_make_no_sense():
    with pytest.raises(OptionError, match=r"diverge.*lower=0.05 steps=4.*products='tf32'"):
        create_head("polar_express", 6, products="bf16")
    with pytest.raises(OptionError, match=r"with precision='float64' nothing is rounded"):
        create_head("newton_schulz", 6, products="bf16", precision="float64")
