"""Every solver as a scalar function: phi, psi, the norm and the value at zero, against 50 digits."""

import mpmath
import pytest
import torch

from gcp.errors import OptionError, UnknownNameError
from gcp.solvers import SOLVERS, create_root, create_solver, solver_options

ITERATIVE = [str(name) for name in SOLVERS if name != "eig"]
VALUES = [1.0, 0.7, 0.2, 0.03, 1e-3, 1e-6]


def newton_schulz(value, steps=5):
    y, z = value, mpmath.mpf(1)
    for _ in range(steps):
        t = (3 - z * y) / 2
        y, z = y * t, z * t
    return y


def pade(value):
    p, q = mpmath.pade(mpmath.taylor(lambda z: mpmath.sqrt(1 - z), 0, 10), 5, 5)
    return mpmath.polyval(p[::-1], 1 - value) / mpmath.polyval(q[::-1], 1 - value)


def taylor(value):
    return mpmath.polyval(mpmath.taylor(lambda z: mpmath.sqrt(1 - z), 0, 10)[::-1], 1 - value)


def halley(value, steps=9):
    root = mpmath.sqrt(value)
    return root if value == 1 else root * mpmath.tanh(3**steps * mpmath.atanh(root))


ORACLES = {"newton_schulz": newton_schulz, "mpa": pade, "mtp": taylor, "halley": halley}
INVERSES = {
    "newton_schulz": lambda value: newton_schulz(value) / value,
    "halley": lambda value: halley(value) / value,
    "mpa": lambda value: 1 / pade(value),
    "mtp": lambda value: mpmath.polyval(mpmath.taylor(lambda z: 1 / mpmath.sqrt(1 - z), 0, 10)[::-1], 1 - value),
}
NORMS = {
    "newton_schulz": lambda values: values.sum(),
    "polar_express": lambda values: 1.01 * values.pow(4).sum() ** 0.25,
    "halley": lambda values: 1.01 * values.pow(4).sum() ** 0.25,
    "mpa": lambda values: values.square().sum().sqrt(),
    "mtp": lambda values: values.square().sum().sqrt(),
}


def basis(n, seed=0):
    return torch.linalg.qr(torch.randn(1, n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q


def test_names():
    assert {str(name) for name in SOLVERS} == {"eig", "newton_schulz", "polar_express", "halley", "mpa", "mtp"}
    assert all(entry.summary for entry in SOLVERS.list())


@pytest.mark.parametrize("name", ITERATIVE)
def test_phi(name):
    V = basis(len(VALUES))
    values = torch.tensor(VALUES, dtype=torch.float64)
    phi = (V.mT @ create_solver(name).phi((V * values) @ V.mT) @ V).diagonal(dim1=1, dim2=2)[0]
    with mpmath.workdps(50):
        if name == "polar_express":  # the root itself, to its uniform error
            expected = [float(mpmath.sqrt(v)) if v >= 2.5e-5 else None for v in VALUES]
        else:
            expected = [float(ORACLES[name](mpmath.mpf(v))) for v in VALUES]
    for got, value in zip(phi.tolist(), expected, strict=True):
        assert value is None or got == pytest.approx(value, rel=4e-11, abs=1e-12)


@pytest.mark.parametrize("name", ITERATIVE)
def test_chi(name):
    """The inverse root as a scalar function; its derivative is in `test_tangents`."""
    solver, V = create_solver(name), basis(len(VALUES))
    values = torch.tensor(VALUES, dtype=torch.float64)
    A = (V * values) @ V.mT
    chi = (V.mT @ solver.chi(A) @ V).diagonal(dim1=1, dim2=2)[0]
    with mpmath.workdps(50):
        expected = [float(INVERSES.get(name, lambda v: 1 / mpmath.sqrt(v))(mpmath.mpf(v))) for v in VALUES]
    for got, value, at in zip(chi.tolist(), expected, VALUES, strict=True):
        assert (name == "polar_express" and at < 2.5e-5) or got == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("name", ITERATIVE)
def test_phi_is_its_value_at_zero_plus_l_psi(name):
    solver = create_solver(name)
    V = basis(len(VALUES))
    A = (V * torch.tensor(VALUES, dtype=torch.float64)) @ V.mT
    expected = solver.phi(A) - solver.null_value * torch.eye(len(VALUES), dtype=torch.float64)
    torch.testing.assert_close(solver.psi(A) @ A, expected, rtol=0, atol=2e-12)
    zero = torch.zeros(1, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(solver.phi(zero), solver.null_value * torch.eye(2, dtype=torch.float64)[None])


@pytest.mark.parametrize(
    ("name", "value"), [("mpa", 1 / 11), ("mtp", 0.176197), ("newton_schulz", 0), ("polar_express", 0), ("halley", 0)]
)
def test_null_value(name, value):
    assert create_solver(name).null_value == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("name", ITERATIVE)
def test_norm_and_its_gradient(name):
    solver = create_solver(name)
    V = basis(4)
    values = torch.tensor([3.0, 1.2, 0.5, 0.0], dtype=torch.float64)
    P = (V * values) @ V.mT
    nu = solver.norm(P)
    assert float(nu) == pytest.approx(float(NORMS[name](values)), rel=1e-13)
    assert float(nu) >= float(values.max())
    leaf = P.clone().requires_grad_()
    eigenvalues = torch.linalg.eigvalsh(leaf)[0].clamp(min=0)
    (expected,) = torch.autograd.grad(NORMS[name](eigenvalues), leaf)
    torch.testing.assert_close(solver.norm_gradient(P / nu).expand_as(P), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ITERATIVE)
def test_tangents(name):
    solver = create_solver(name)
    V = basis(4)
    A = (V * torch.tensor([0.9, 0.5, 0.3, 0.2], dtype=torch.float64)) @ V.mT
    E = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    E, h = E + E.mT, 1e-6
    for name in ("phi", "psi", "chi"):
        function, tangent = getattr(solver, name), getattr(solver, f"{name}_tangent")
        value, slope = tangent(A, E)
        torch.testing.assert_close(value, function(A), rtol=1e-10, atol=1e-11)
        torch.testing.assert_close(slope, (function(A + h * E) - function(A - h * E)) / (2 * h), rtol=1e-6, atol=1e-6)


def test_defaults():
    assert solver_options("newton_schulz") == {"iterations": 5, "products": "full"}
    assert solver_options("polar_express") == {"lower": 5e-3, "steps": 6, "products": "full"}
    assert solver_options("halley") == {"iterations": 9}
    assert solver_options("mpa") == solver_options("mtp") == {"backward": "lyapunov"}
    assert create_root(solver="eig").default_precision == "float64"
    assert all(create_root(solver=name).default_precision == "float32" for name in ITERATIVE)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("newton_schulz", {"iterations": 0}, r"iterations .*'newton_schulz' .*\b0; allowed: .*>= 1\b"),
        ("newton_schulz", {"steps": 3}, r"'newton_schulz' .*'steps'.* iterations"),
        ("polar_express", {"lower": 0.0}, r"lower .*'polar_express' .*\b0\.0; allowed: .*\b0 .*\b1\b"),
        ("polar_express", {"lower": 1.0}, "allowed: a number between 0 and 1"),
        ("polar_express", {"step": 3}, r"'step'.* lower, steps, products\b.*Did you mean 'steps'"),
        ("polar_express", {"quintics": ()}, "no option 'quintics'"),
        ("halley", {"iterations": 21}, r"iterations .*'halley' .*\b21; allowed: .*>= 1 and <= 20"),
        ("mpa", {"backward": "iteration"}, r"allowed: .*lyapunov, iterations.* Did you mean 'iterations'"),
        ("mtp", {"backward": None}, "option backward of 'mtp' is None"),
        ("eig", {"iterations": 3}, r"'eig' .*'iterations'.*no options"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(OptionError, match=message):
        create_solver(name, **options)


def test_unknown_solver():
    with pytest.raises(UnknownNameError, match=r"'newton_shulz'.*Did you mean 'newton_schulz'"):
        create_solver("newton_shulz")
