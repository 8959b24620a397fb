"""Any function of the spectrum: values, divided differences against 50 digits, gradients on both sides, every rule."""

import math

import mpmath
import pytest
import torch

import gcp
from gcp.errors import OptionError, UnknownNameError
from gcp.functions import FUNCTIONS, create_function
from gcp.gradients import RULES
from gcp.roots.logarithm import logarithm
from gcp.solvers import SOLVERS

CASES = [(str(name), {}) for name in FUNCTIONS] + [("power", {"exponent": 0.3}), ("power", {"exponent": -1.5})]
EXACT = ["exact", "pade"]  # the two rules without a ratio
ITERATIVE = [str(name) for name in SOLVERS if name != "eig"]
RATIO = [str(name) for name in RULES if not RULES[name].obj.has_trace_term]
SCALARS = {
    "sqrt": mpmath.sqrt,
    "inverse_sqrt": lambda x: 1 / mpmath.sqrt(x),
    "power": lambda x, exponent=0.5: x ** mpmath.mpf(exponent),
    "log": mpmath.log,
    "inverse": lambda x: 1 / x,
}
EVERY = pytest.mark.parametrize(("name", "options"), CASES, ids=lambda v: v if isinstance(v, str) else str(v or ""))


def features(*shape, kind="full"):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if kind == "twins":
        x[:, 1] = x[:, 0]
    elif kind == "dead":
        x[:, :2] = 0.7
    elif kind == "zero":
        x = torch.zeros_like(x)
    return x


def upstream(x):
    d = x.shape[1]
    return torch.randn(len(x), d, d, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(x.dtype)


def matrix(values, seed=0):
    n = len(values)
    V = torch.linalg.qr(torch.randn(2, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q
    P = (V * torch.tensor(values, dtype=torch.float64)) @ V.mT
    return (P + P.mT) / 2


@EVERY
@pytest.mark.parametrize("gap", [0.9, 0.1, 1e-3, 1e-6, 1e-10, 2**-52, 0.0, "1e-6 of a", "1e-13 of a", "1e-18 of a"])
@pytest.mark.parametrize("a", [3.0, 1e-4])
def test_differences_against_50_digits(name, options, a, gap):
    b = a * float(gap.split()[0]) if isinstance(gap, str) else a * (1 - gap)
    with mpmath.workdps(80):
        f, x, y = SCALARS[name], mpmath.mpf(a), mpmath.mpf(b)
        if x == y:
            x, y = x * (1 + mpmath.mpf(10) ** -30), x * (1 - mpmath.mpf(10) ** -30)
        wanted = float((f(x, **options) - f(y, **options)) / (x - y))
    left, right = torch.tensor([a, b], dtype=torch.float64), torch.tensor([b, a], dtype=torch.float64)
    got = create_function(name, **options).difference(left, right)
    assert got.tolist() == pytest.approx([wanted, wanted], rel=1e-13)


@EVERY
@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("ridge", [1e-3, 0.5])
def test_value_against_50_digits(name, options, side, ridge):
    x = features(1, 4, 2, 2)
    with mpmath.workdps(50):
        X = mpmath.matrix(x[0].flatten(1).tolist())
        for i in range(4):
            mean = sum(X[i, j] for j in range(4)) / 4
            for j in range(4):
                X[i, j] -= mean
        spectrum, V = mpmath.eigsy(X * X.T / 4 + ridge * mpmath.eye(4))
        values = mpmath.diag([SCALARS[name](value, **options) for value in spectrum])
        F = (V * values * V.T).tolist()
    wanted = torch.tensor([[float(entry) for entry in row] for row in F], dtype=torch.float64)
    got = gcp.covariance_function(x, name, ridge=ridge, side=side, **options)[0]
    assert float((got - wanted).norm() / wanted.norm()) < 1e-12


@EVERY
@pytest.mark.parametrize("rule", EXACT)
@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("kind", ["full", "twins", "dead", "zero"])
@pytest.mark.parametrize("shape", [(1, 3, 3, 2), (1, 5, 2, 2)], ids=["M>d", "M<d"])
def test_gradcheck(name, options, rule, side, kind, shape):
    """Also at a drop of rank: with a ridge the function has no kink there."""
    if kind != "full" and rule != "exact":
        return
    x = features(*shape, kind=kind).requires_grad_()

    def function(x):
        return gcp.covariance_function(x, name, ridge=0.3, rule=rule, side=side, **options)

    assert torch.autograd.gradcheck(function, x, eps=1e-5, atol=1e-5, rtol=1e-4)


@EVERY
@pytest.mark.parametrize("values", [[2.0, 1.1, 0.3, 0.1], [2.0, 2.0, 0.5, 0.5]])
def test_gradcheck_of_a_matrix(name, options, values):
    def function(P):
        return gcp.matrix_function((P + P.mT) / 2, name, ridge=0.3, **options)

    P = matrix(values).requires_grad_()
    assert torch.autograd.gradcheck(function, P, eps=1e-5, atol=1e-5, rtol=1e-4)


@EVERY
def test_gradcheck_of_a_singular_matrix(name, options):
    """A A^T of rank two: a step off the positive semidefinite matrices is none that can be differentiated."""

    def function(A):
        return gcp.matrix_function(A @ A.mT, name, ridge=0.3, **options)

    A = torch.randn(2, 4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(function, A, eps=1e-5, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("rule", RATIO)
@EVERY
@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 8, 2, 3)])
def test_both_sides_agree_for_every_rule(name, options, rule, shape):
    x, found = features(*shape), []
    for side in ("channel", "sample"):
        leaf = x.clone().requires_grad_()
        F = gcp.covariance_function(leaf, name, ridge=0.1, rule=rule, side=side, **options)
        found.append((F.detach(), torch.autograd.grad(F, leaf, upstream(x))[0]))
    for one, other in zip(*found, strict=True):
        assert float((one - other).norm() / other.norm()) < 1e-9


@pytest.mark.parametrize("rule", RATIO)
@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("function", [{"function": "sqrt"}, {"function": "power", "exponent": 0.5}])
@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 8, 2, 3)])
def test_the_root_is_a_case(function, rule, side, shape):
    x = features(*shape)
    leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    F = gcp.covariance_function(leaf, **function, ridge=0, rule=rule, side=side)
    Q = gcp.covariance_sqrt(other, rule=rule, side=side)
    assert float((F - Q).norm() / Q.norm()) < 1e-12
    ours, theirs = (torch.autograd.grad(out, at, upstream(x))[0] for out, at in ((F, leaf), (Q, other)))
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-11


def test_identities():
    P, ridge = matrix([2.0, 1.1, 0.3, 0.0]), 0.2
    shifted = P + ridge * torch.eye(4, dtype=torch.float64)
    close = {"rtol": 1e-11, "atol": 1e-12}
    torch.testing.assert_close(torch.linalg.matrix_exp(gcp.matrix_function(P, "log", ridge)), shifted, **close)
    torch.testing.assert_close(gcp.matrix_function(P, "inverse", ridge), torch.linalg.inv(shifted), **close)
    whitening = gcp.matrix_function(P, "inverse_sqrt", ridge)
    identity = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    torch.testing.assert_close(whitening @ shifted @ whitening, identity, **close)
    torch.testing.assert_close(gcp.matrix_function(P, "power", ridge, exponent=2), shifted @ shifted, **close)


@EVERY
@pytest.mark.parametrize("side", ["channel", "sample"])
def test_precision(name, options, side):
    """float32 features are computed in float64 unless float32 is asked for."""
    x = features(2, 6, 3, 3).float()
    exact = gcp.covariance_function(x.double(), name, ridge=0.1, side=side, **options)
    for precision, limit in ((None, 1e-6), ("float32", 1e-4)):
        F = gcp.covariance_function(x, name, ridge=0.1, side=side, precision=precision, **options)
        assert F.dtype == torch.float32 and float((F - exact).norm() / exact.norm()) < limit


@pytest.mark.parametrize("name", ["sqrt", "inverse_sqrt"])
@pytest.mark.parametrize("solver", ITERATIVE)
def test_iterative_solvers(name, solver):
    """The exact function where they converge; the exact derivative of their steps."""
    x = features(2, 4, 3, 3).requires_grad_()

    def function(x, ridge=0.5, **options):
        return gcp.covariance_function(x, name, ridge=ridge, solver=solver, **options)

    exact = gcp.covariance_function(x, name, ridge=0.5)
    limit = {"polar_express": 1e-10, "halley": 1e-12, "mpa": 1e-4}.get(solver, 0.2)
    assert float((function(x) - exact).norm() / exact.norm()) < limit
    steps = {"backward": "iterations"} if solver in ("mpa", "mtp") and name == "sqrt" else {}
    assert torch.autograd.gradcheck(lambda x: function(x, **steps), x, eps=1e-5, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["sqrt", "inverse_sqrt"])
@pytest.mark.parametrize("solver", ITERATIVE)
@pytest.mark.parametrize("kind", ["twins", "dead", "zero"])
def test_iterative_solvers_where_the_covariance_is_singular(name, solver, kind):
    """The ridge carries them; float32 and float64 agree."""
    x, results = features(2, 6, 2, 2, kind=kind), []
    for dtype in (torch.float32, torch.float64):
        leaf = x.to(dtype).requires_grad_()
        F = gcp.covariance_function(leaf, name, ridge=0.05, solver=solver)
        results.append((F.detach(), torch.autograd.grad(F, leaf, upstream(leaf))[0]))
    for low, high in zip(*results, strict=True):
        assert float((low - high).norm()) <= 1e-3 * float(high.norm()) + 1e-4


@pytest.mark.parametrize("condition", [1e2, 1e4])
@pytest.mark.parametrize("solver", ["polar_express", "halley"])
@pytest.mark.parametrize("name", ["sqrt", "inverse_sqrt"])
def test_iterative_gradient_of_a_matrix_in_float32(name, solver, condition):
    """Of a given matrix too: the derivative of the steps had 4e-2 at condition number 1e4."""
    P = matrix((condition ** -torch.linspace(0, 1, 48, dtype=torch.float64)).tolist()).float()
    gradients = []
    for leaf, options in ((P.double(), {}), (P, {"solver": solver})):
        leaf = leaf.clone().requires_grad_()
        F = gcp.matrix_function(leaf, name, ridge=1e-9, **options)
        gradients.append(torch.autograd.grad(F, leaf, upstream(leaf))[0])
    exact, got = gradients
    assert float((got - exact).norm() / exact.norm()) < (1e-4 if name == "sqrt" else 1e-5 * condition**0.5)


def test_faults_of_iterative_solvers():
    x = torch.rand(1, 3, 2, 2)
    with pytest.raises(OptionError, match=r"'halley' has the functions sqrt, inverse_sqrt; 'log' .*solver='eig'"):
        gcp.covariance_function(x, "log", solver="halley")
    with pytest.raises(OptionError, match=r"'mpa' .*channel side.*side='auto'"):
        gcp.covariance_function(x, solver="mpa", side="sample")
    with pytest.raises(OptionError, match=r"'mpa' brings its own backward; rule='pade' needs solver='eig'"):
        gcp.covariance_function(x, solver="mpa", rule="pade")
    with pytest.raises(OptionError, match=r"'inverse_sqrt' .*eigenvalue 0\b.*ridge above 0\b"):
        gcp.covariance_function(x, solver="newton_schulz", ridge=0)
    with pytest.raises(UnknownNameError, match=r"'newton'"):
        gcp.covariance_function(x, solver="newton")


def test_faults():
    x = torch.rand(1, 3, 2, 2)
    with pytest.raises(UnknownNameError, match=r"'inverse_root'.*Did you mean 'inverse_sqrt'"):
        gcp.covariance_function(x, "inverse_root")
    with pytest.raises(OptionError, match=r"'log' .*eigenvalue 0\b.*ridge above 0\b"):
        gcp.covariance_function(x, "log", ridge=0)
    with pytest.raises(OptionError, match=r"ridge is -1; allowed: a number >= 0"):
        gcp.covariance_function(x, ridge=-1)
    with pytest.raises(OptionError, match=r"option exponent of 'power' is 0"):
        gcp.covariance_function(x, "power", exponent=0)
    with pytest.raises(OptionError, match=r"'exact' has no option 'exponent'"):
        gcp.covariance_function(x, "log", exponent=0.5)
    with pytest.raises(OptionError, match=r"'newton' .*iteration.*inverse_sqrt, not 'log'; take rule='exact'"):
        gcp.covariance_function(x, "log", rule="newton")
    with pytest.raises(RuntimeError, match="double backward"):
        leaf = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(gcp.covariance_function(leaf).sum(), leaf, create_graph=True)
        gradient.sum().backward()


@pytest.mark.parametrize("name", ["sqrt", "inverse_sqrt"])
@pytest.mark.parametrize("side", ["channel", "sample"])
@pytest.mark.parametrize("shape", [(2, 4, 3, 3), (2, 8, 2, 3)])
@pytest.mark.parametrize("scale", [1.0, 1e-25])
def test_newton_is_the_gradient_of_its_iteration(name, side, shape, scale):
    """Autograd through the unrolled coupled iteration; null eigenvalues have their part in the trace term."""
    x, ridge, steps = features(*shape) * scale, 0.1 * scale**2, 7
    leaf, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    F = gcp.covariance_function(leaf, name, ridge=ridge, rule="newton", side=side, iterations=steps)
    exact = gcp.covariance_function(x, name, ridge=ridge)
    assert float((F - exact).norm() / exact.norm()) < 1e-12
    X = other.flatten(2) - other.flatten(2).mean(2, keepdim=True)
    identity = torch.eye(shape[1], dtype=torch.float64)
    A = X @ X.mT / X.shape[2] + ridge * identity
    tau = A.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    Y, Z = A / tau, identity.expand_as(A)
    for _ in range(steps):
        T = (3 * identity - Z @ Y) / 2
        Y, Z = Y @ T, T @ Z
    unrolled = Y * tau.sqrt() if name == "sqrt" else Z / tau.sqrt()
    ours, theirs = (torch.autograd.grad(out, at, upstream(x))[0] for out, at in ((F, leaf), (unrolled, other)))
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-12


def test_newton_without_a_ridge_is_that_of_the_root():
    x, results = features(2, 8, 2, 3), []
    for call in (lambda x: gcp.covariance_sqrt(x, "newton"), lambda x: gcp.covariance_function(x, "sqrt", 0, "newton")):
        leaf = x.clone().requires_grad_()
        results.append(torch.autograd.grad(call(leaf), leaf, upstream(x))[0])
    assert float((results[0] - results[1]).norm() / results[0].norm()) < 1e-12


@pytest.mark.parametrize(("condition", "limit"), [(1.0, 1e-12), (1e4, 1e-12), (1e8, 1e-9), (1e10, 1e-7)])
def test_a_logarithm_by_products(condition, limit):
    values = 7 * torch.logspace(0, -math.log10(condition), 24, dtype=torch.float64)
    V = torch.linalg.qr(torch.randn(2, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    P, wanted = (V * values) @ V.mT, (V * values.log()) @ V.mT
    assert float((logarithm((P + P.mT) / 2) - wanted).norm() / wanted.norm()) < limit


def test_compile():
    x = features(2, 4, 3, 3)

    def step(x):
        return gcp.covariance_function(x, "inverse_sqrt", ridge=0.1, rule="taylor")

    torch._dynamo.reset()
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), step(x))
