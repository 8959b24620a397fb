"""The product of reflections against a loop in float64, its gradients, and bad input."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from gcp.errors import NonFiniteError, OptionError, ShapeError
from gcp.layers import householder_apply
from gcp.layers.householder import default_block


def loop(V, X, transpose=False):
    """One reflection after the other, from the definition."""
    for v in V if transpose else V.flip(0):
        if v.any():
            X = X - 2 * torch.outer(v, v @ X) / (v @ v)
    return X


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("d", [1, 2, 3, 5, 31, 32, 33, 96, 100, 257])
def test_equals_the_loop(d, transpose):
    for k in sorted({0, 1, d - 1, d, d + 3}):
        V = normal(k, d)
        for m in (1, 2, d, 4 * d):
            X = normal(d, m, seed=1)
            assert (householder_apply(V, X, transpose=transpose) - loop(V, X, transpose)).abs().max() < 1e-12


@pytest.mark.parametrize("rebuild", [False, True])
@pytest.mark.parametrize("block", [1, 2, 7, 64])
def test_gradient_of_every_block_is_that_of_the_loop(block, rebuild):
    V, X, G = normal(9, 6), normal(6, 4, seed=1), normal(6, 4, seed=2)
    for transpose in (False, True):
        ours, theirs = ([t.clone().requires_grad_() for t in (V, X)] for _ in range(2))
        got = torch.autograd.grad(householder_apply(*ours, block, transpose, rebuild), ours, G)
        expected = torch.autograd.grad(loop(*theirs, transpose), theirs, G)
        for a, b in zip(got, expected, strict=True):
            assert (a - b).abs().max() < 1e-12


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize(
    ("v", "x"), [((3, 4), (4, 2)), ((5, 3), (3, 4)), ((4, 2), (2, 2, 2)), ((2, 3, 3), (3, 2)), ((2, 2, 3), (2, 3, 1))]
)
def test_gradcheck_twice(v, x, transpose):
    leaves = normal(*v).requires_grad_(), normal(*x, seed=1).requires_grad_()
    assert gradcheck(lambda V, X: householder_apply(V, X, 2, transpose), leaves)
    assert gradcheck(lambda V, X: householder_apply(V, X, 2, transpose, rebuild=True), leaves)
    assert gradgradcheck(lambda V, X: householder_apply(V, X, 2, transpose), leaves)


def test_rebuilding_refuses_a_double_backward():
    V, X = normal(4, 3).requires_grad_(), normal(3, 2, seed=1).requires_grad_()
    out = householder_apply(V, X, rebuild=True).square().sum() + V.square().sum()
    with pytest.raises(RuntimeError, match=r"double backward .*rebuild=False"):
        torch.autograd.grad(out, V, create_graph=True)


def test_rebuilding_keeps_less():
    def kept(rebuild):
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            householder_apply(normal(64, 64).requires_grad_(), normal(64, 100), 8, rebuild=rebuild)
        return sum(sizes.values())

    assert kept(True) < kept(False) / 3


def test_batches_broadcast():
    V, X = normal(2, 1, 3, 4), normal(5, 4, 6, seed=1)
    got = householder_apply(V, X)
    assert got.shape == (2, 5, 4, 6)
    for i in range(2):
        for j in range(5):
            assert torch.allclose(got[i, j], loop(V[i, 0], X[j]), atol=1e-13)
    assert householder_apply(normal(3, 4), normal(2, 0, 4, 5)).shape == (2, 0, 4, 5)
    assert householder_apply(normal(3, 4), normal(4, 0)).shape == (4, 0)


def test_views_give_the_same_and_are_left_alone():
    V, X = normal(6, 10)[:, ::2], normal(3, 5, seed=1).mT
    before = V.clone(), X.clone()
    got = householder_apply(V, X, 4)
    assert torch.equal(got, householder_apply(V.contiguous(), X.contiguous(), 4))
    assert torch.equal(V, before[0]) and torch.equal(X, before[1])
    got.zero_()  # the result is nobody's view
    assert torch.equal(X, before[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [1e-30, 1e-18, 1.0, 1e18, 1e30])
def test_length_means_nothing(length, dtype):
    """Squares of these lengths under- or overflow in float32; the gradient goes with one over the length."""
    V, X, G = normal(8, 5).to(dtype), normal(5, 3, seed=1).to(dtype), normal(5, 3, seed=2).to(dtype)
    leaf, scaled = V.clone().requires_grad_(), (V * length).requires_grad_()
    out, other = householder_apply(leaf, X, 3), householder_apply(scaled, X, 3)
    eps = torch.finfo(dtype).eps
    assert (out - other).abs().max() < 50 * eps
    (gradient,), (scaled_gradient,) = (torch.autograd.grad(o, v, G) for o, v in ((out, leaf), (other, scaled)))
    assert torch.allclose(scaled_gradient * length, gradient, rtol=1e-4, atol=200 * eps)
    assert (gradient * V).sum(1).abs().max() < 200 * eps


def test_zero_reflectors_are_the_identity_and_stay():
    V, X = normal(6, 4), normal(4, 3, seed=1)
    V[[0, 3]] = 0
    leaf = V.clone().requires_grad_()
    out = householder_apply(leaf, X, 2)
    assert torch.allclose(out, loop(V[[1, 2, 4, 5]], X), atol=1e-13)
    out.square().mul(normal(4, 3, seed=2)).sum().backward()
    assert not leaf.grad[[0, 3]].any() and leaf.grad[[1, 2, 4, 5]].any(1).all()
    tiny = torch.tensor([[3e-40, 4e-40]])  # not zero, though its square is
    assert torch.allclose(
        householder_apply(tiny, torch.eye(2)), torch.tensor([[0.28, -0.96], [-0.96, -0.28]]), atol=1e-4
    )


@pytest.mark.parametrize("block", [4, 64])
def test_equal_reflectors_cancel_in_pairs(block):
    # Every entry of T is at its bound, so the rounding of the products of reflectors in a block adds up: to b times
    # 1.2e-7 where it is independent, to b^2 times that where the processor's kernels round all in one direction.
    rounding = max(2e-5, 2 * 1.2e-7 * block**2)
    v = normal(1, 12).float()
    for k in (2, 64, 200):
        out = householder_apply(v.expand(k, -1), torch.eye(12), block)
        assert (out - torch.eye(12)).abs().max() < rounding
    near = v.expand(64, -1) + 1e-6 * normal(64, 12, seed=1).float()
    W = householder_apply(near, torch.eye(12), block)
    assert (W @ W.mT - torch.eye(12)).abs().max() < rounding


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_reflectors_are_named(bad):
    V = normal(5, 3)
    V[3, 1] = bad
    with pytest.raises(NonFiniteError, match="reflector 3 holds inf or NaN"):
        householder_apply(V, normal(3, 2))
    with pytest.raises(NonFiniteError, match="reflector 3 of product 1 holds"):
        householder_apply(torch.stack((normal(5, 3), V)), normal(3, 2))


def test_non_finite_columns_stay_in_their_column():
    X = normal(3, 2)
    X[1, 0] = float("nan")
    out = householder_apply(normal(5, 3), X)
    assert out[:, 0].isnan().all() and out[:, 1].isfinite().all()


@pytest.mark.parametrize(
    ("v", "x", "message"),
    [
        ((3, 4), (5, 2), r"\bd >= 1 .*\(3, 4\) .*\(5, 2\)"),
        ((4,), (4, 2), r"got V \(4,\)"),
        ((3, 4), (4,), r"X \(4,\)"),
        ((3, 0), (0, 2), r"d >= 1"),
        ((2, 3, 4), (3, 4, 2), "do not broadcast"),
    ],
)
def test_shapes_that_do_not_fit(v, x, message):
    with pytest.raises(ShapeError, match=message):
        householder_apply(normal(*v), normal(*x))


@pytest.mark.parametrize("block", [0, -1, 2.0, True, "8"])
def test_bad_blocks(block):
    with pytest.raises(OptionError, match=r"block is .*; allowed: a whole number >= 1"):
        householder_apply(normal(3, 4), normal(4, 2), block)


def test_integers_and_complex_numbers_are_refused():
    for dtype in (torch.int64, torch.complex64):
        with pytest.raises(ShapeError, match=rf"V is {dtype}; allowed: real"):
            householder_apply(torch.ones(2, 3, dtype=dtype), torch.ones(3, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    V, X = normal(40, 20).to(dtype), normal(20, 3, seed=1).to(dtype)
    out = householder_apply(V, X)
    assert out.dtype == dtype
    assert torch.equal(out, householder_apply(V.float(), X.float()).to(dtype))
    assert householder_apply(V, X.float()).dtype == torch.float32


def test_autocast_changes_nothing_forward_or_backward():
    V, X = normal(40, 20).float().requires_grad_(), normal(20, 3, seed=1).float()
    for rebuild in (False, True):
        plain = householder_apply(V, X, rebuild=rebuild)
        (expected,) = torch.autograd.grad(plain.square().sum(), V)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = householder_apply(V, X, rebuild=rebuild)
            (gradient,) = torch.autograd.grad(out.square().sum(), V)
        assert torch.equal(out, plain) and torch.equal(gradient, expected)


def test_blocks_widen_with_the_columns():
    cpu, blocks = torch.device("cpu"), [1, 255, 256, 1024, 10**6]
    assert [default_block(m, cpu) for m in blocks] == [64, 64, 128, 256, 256]
    assert {default_block(m, torch.device("cuda")) for m in blocks} == {128}
    assert [default_block(m, cpu, 512) for m in (1, 32, 33)] == [32, 32, 64]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize("transpose", [False, True])
def test_long_reflectors(dtype, tolerance, transpose):
    """One product of them is computed on transposed memory, several are not; both are the reflections one by one."""
    torch.manual_seed(0)
    d, k, m = 520, 70, 20
    V, X, G = (torch.randn(shape, dtype=dtype) for shape in ((k, d), (d, m), (d, m)))

    def results(V, X, G):
        V, X = (tensor.clone().requires_grad_() for tensor in (V, X))
        out = householder_apply(V, X, transpose=transpose)
        return out.detach(), *torch.autograd.grad(out, (V, X), G)

    single = results(V, X, G)
    double = [pair[0] for pair in results(*(tensor.expand(2, *tensor.shape) for tensor in (V, X, G)))]
    exact = X.double()
    for v in V.double() if transpose else V.double().flip(0):
        exact = exact - 2 * v[:, None] * (v @ exact) / (v @ v)
    assert (single[0] - exact).norm() < tolerance * exact.norm()
    for one, two in zip(single, double, strict=True):
        assert (one - two).norm() < tolerance * two.norm()
    (only,) = torch.autograd.grad(householder_apply(V.requires_grad_(), X, transpose=transpose), V, G)
    assert torch.equal(only, single[1])


def test_compiles_to_one_graph():
    torch._dynamo.reset()
    step = torch.compile(householder_apply, fullgraph=True, backend="aot_eager")
    leaves = normal(5, 3).requires_grad_(), normal(3, 2, seed=1).requires_grad_()
    out = step(*leaves, 2)
    expected = householder_apply(*leaves, 2)
    assert torch.allclose(out, expected, atol=1e-13)
    for a, b in zip(*(torch.autograd.grad(o.sin().sum(), leaves) for o in (out, expected)), strict=True):
        assert torch.allclose(a, b, atol=1e-12)
