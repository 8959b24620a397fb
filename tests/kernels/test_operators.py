"""The operators as torch sees them: shapes without data, gradients, the compiler, autocast."""

import pytest
import torch
from torch.library import opcheck

from gcp import kernels
from gcp.gradients import RULES, create_rule
from gcp.gradients.exact import Exact
from gcp.heads import create_head, list_heads
from gcp.kernels import triangle
from gcp.kernels.spectral import functor

EIGEN = [str(entry) for entry in list_heads() if "form" in entry.obj.takes]
KEPT = torch.tensor([[0.0, 0.5, 0.5, 2.0], [0.1, 0.2, 1.0, 1.5]], dtype=torch.float64)


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def symmetric(*shape):
    A = normal(*shape)
    return A + A.mT


@pytest.mark.parametrize("subtract", [False, True])
@pytest.mark.parametrize("form", ["Exact", "Newton"])
def test_spectral_core_is_an_operator(form, subtract):
    opcheck(torch.ops.gcp.spectral_core.default, (KEPT, symmetric(2, 4, 4), form, 5.0, subtract))


def test_eigh_is_an_operator():
    opcheck(torch.ops.gcp.eigh.default, (symmetric(2, 4, 4), None))
    eigenvalues, rows = torch.ops.gcp.eigh(symmetric(2, 4, 4), None)
    torch.testing.assert_close(rows.mT * eigenvalues[:, None, :] @ rows, symmetric(2, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_triangle_operators(dtype):
    opcheck(torch.ops.gcp.triangle_pack.default, (symmetric(2, 4, 4).requires_grad_(), dtype))
    opcheck(torch.ops.gcp.triangle_spread.default, (normal(2, 10).requires_grad_(), 4, dtype))


def test_triangle_gradients(as_on_gpu):
    as_on_gpu()

    def pack(A):
        return kernels.pack(A + A.mT)

    A, g = normal(2, 4, 4).requires_grad_(), normal(2, 10).requires_grad_()
    assert torch.autograd.gradcheck(pack, A) and torch.autograd.gradgradcheck(pack, A)
    assert torch.autograd.gradcheck(lambda g: kernels.spread(g, 4), g)


@pytest.mark.parametrize("name", [str(name) for name in RULES])
def test_a_rule_gives_the_same_through_the_operator(name):
    rule = create_rule(name)
    kept, S = rule.spectrum(KEPT, 4), symmetric(2, 4, 4)
    for subtract in (False, True):
        wanted = rule.spectral_core(kept, S.clone(), subtract)
        got = kernels.spectral_core(rule, kept, S.clone(), subtract)
        for ours, theirs in zip(got, wanted, strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or torch.allclose(ours, theirs, rtol=1e-13, atol=1e-13)


def test_a_rule_without_a_kernel_is_computed_by_its_own_methods(as_on_gpu, monkeypatch):
    class Doubled(Exact):
        def weight(self, kept):
            return 2 * super().weight(kept)

    as_on_gpu()
    monkeypatch.setattr("torch.ops.gcp.spectral_core", None)
    assert functor(Doubled()) is None
    core, w0, c = kernels.spectral_core(Doubled(), KEPT, symmetric(2, 4, 4))
    assert torch.equal(core, 2 * create_rule("exact").weight(KEPT) * symmetric(2, 4, 4)) and w0 is None and c is None


def test_a_backward_through_parts_of_a_gradient_raises():
    S = symmetric(2, 4, 4).requires_grad_()
    core = torch.ops.gcp.spectral_core(KEPT, S, "Exact", 0.0, False)[0]
    with pytest.raises(RuntimeError, match=r"double backward .*not implemented"):
        core.sum().backward()
    with pytest.raises(RuntimeError, match="double backward"):
        torch.ops.gcp.eigh(S, None)[0].sum().backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_lifts_half_precision(dtype):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        packed = torch.ops.gcp.triangle_pack(symmetric(1, 3, 3).to(dtype), torch.float32)
        core = torch.ops.gcp.spectral_core(KEPT.to(dtype), symmetric(2, 4, 4).to(dtype), "Exact", 0.0, False)[0]
        double = torch.ops.gcp.spectral_core(KEPT, symmetric(2, 4, 4), "Exact", 0.0, False)[0]
    assert packed.dtype == core.dtype == torch.float32 and double.dtype == torch.float64


@pytest.mark.parametrize("name", [*EIGEN, "seb", "covariance"])
def test_heads_through_the_operators(name, as_on_gpu):
    """Output and gradient, plain and compiled into one graph."""
    head, x = create_head(name, 6), normal(2, 6, 2, 2)

    def evaluate(head):
        leaf = x.clone().requires_grad_()
        out = head(leaf)
        return out.detach(), torch.autograd.grad(out.square().sum(), leaf)[0]

    wanted = evaluate(head)
    as_on_gpu()
    torch._dynamo.reset()
    for ours in (evaluate(head), evaluate(torch.compile(head, fullgraph=True, backend="aot_eager", dynamic=False))):
        for got, expected in zip(ours, wanted, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_double_backward_of_a_head_raises_through_the_operators(as_on_gpu):
    as_on_gpu()
    x = normal(2, 4, 3, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(create_head("svd_pade", 4)(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        (gradient.sum() + x.sum()).backward()


def test_plain_triangle_is_what_the_cpu_uses():
    A = symmetric(2, 5, 5)
    assert torch.equal(kernels.pack(A), triangle.select(A))
    assert torch.equal(kernels.spread(kernels.pack(A), 5), triangle.plain_spread(triangle.select(A), 5))
