"""The root of a given matrix: value, gradient, singular matrices, and what is not a covariance."""

import pytest
import torch

import gcp
from gcp.errors import OptionError, ShapeError, UnknownNameError
from gcp.gradients import RULES
from gcp.solvers import SOLVERS

ITERATIVE = [str(name) for name in SOLVERS if name != "eig"]


def matrix(values, seed=0, batch=2):
    generator = torch.Generator().manual_seed(seed)
    n = len(values)
    V = torch.linalg.qr(torch.randn(batch, n, n, generator=generator, dtype=torch.float64)).Q
    P = (V * torch.tensor(values, dtype=torch.float64)) @ V.mT
    return (P + P.mT) / 2, V


@pytest.mark.parametrize("rule", [str(rule) for rule in RULES])
def test_value(rule):
    """Every rule has the exact root forward; top_n with all eigenvalues kept."""
    P, _ = matrix([2.0, 1.1, 0.3, 0.02])
    Q = gcp.matrix_sqrt(P, rule=rule, **({"keep": 1.0} if rule == "top_n" else {}))
    torch.testing.assert_close(Q @ Q, P, rtol=1e-12, atol=1e-13)
    assert bool((torch.linalg.eigvalsh(Q) > 0).all())


@pytest.mark.parametrize("rule", ["exact", "original", "pade", "truncate"])
def test_gradcheck_of_exact_rules(rule):
    P, _ = matrix([2.0, 1.1, 0.3, 0.1])
    assert torch.autograd.gradcheck(lambda P: gcp.matrix_sqrt(P, rule=rule), P.requires_grad_())


@pytest.mark.parametrize("options", [{}, {"backward": "iterations"}])
@pytest.mark.parametrize("solver", ITERATIVE)
def test_gradcheck_of_solvers(solver, options):
    if options and solver not in ("mpa", "mtp"):
        return
    if not options and solver in ("mpa", "mtp"):
        return  # their default is the gradient of the exact root
    P, _ = matrix([2.0, 1.1, 0.3, 0.1])
    assert torch.autograd.gradcheck(lambda P: gcp.matrix_sqrt(P, solver=solver, **options), P.requires_grad_())


def test_gradcheck_at_repeated_eigenvalues():
    P, _ = matrix([2.0, 2.0, 0.5, 0.5])
    assert torch.autograd.gradcheck(lambda P: gcp.matrix_sqrt((P + P.mT) / 2), P.requires_grad_())


@pytest.mark.parametrize("rule", [str(rule) for rule in RULES])
def test_singular(rule):
    """Weight 0 between null eigenvalues; finite everywhere."""
    P, V = matrix([2.0, 1.1, 0.0, 0.0])
    P.requires_grad_()
    G = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(gcp.matrix_sqrt(P, rule=rule), P, G)
    assert gradient.isfinite().all()
    torch.testing.assert_close(gradient, gradient.mT, rtol=1e-12, atol=1e-13)
    inner = V.mT @ gradient @ V
    if rule != "newton":  # which adds its trace term to the whole diagonal
        assert float(inner[:, 2:, 2:].abs().max()) < 1e-12
    if rule == "exact":
        S = V.mT @ ((G + G.mT) / 2) @ V
        torch.testing.assert_close(inner[:, 0, 2:], S[:, 0, 2:] / 2**0.5, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("solver", ["eig", *ITERATIVE])
def test_zero_matrix(solver):
    P = torch.zeros(2, 3, 3, dtype=torch.float64, requires_grad=True)
    Q = gcp.matrix_sqrt(P, solver=solver)
    Q.sum().backward()
    assert not Q.any() and not P.grad.any()


@pytest.mark.parametrize("solver", ["eig", *ITERATIVE])
@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 4), (1, 2, 3, 3), (2, 0, 0)])
def test_wrong_shape(solver, shape):
    with pytest.raises(ShapeError, match=r"square matrices \(B, d, d\) are needed, got shape"):
        gcp.matrix_sqrt(torch.ones(shape), solver=solver)


@pytest.mark.parametrize("solver", ["eig", *ITERATIVE])
def test_not_symmetric(solver):
    P = torch.eye(3).repeat(2, 1, 1)
    P[1, 0, 1] = 0.5
    with pytest.raises(ShapeError, match=r"matrix 1 .*not symmetric.*\(P \+ P\.mT\) / 2"):
        gcp.matrix_sqrt(P, solver=solver)


@pytest.mark.parametrize("solver", ["eig", *ITERATIVE])
def test_indefinite(solver):
    P = torch.stack([torch.eye(3), torch.diag(torch.tensor([1.0, 0.5, -0.4]))])
    with pytest.raises(ShapeError, match="matrix 1 of the batch is not positive semidefinite"):
        gcp.matrix_sqrt(P, solver=solver)


def test_indefinite_in_the_published_form():
    P = torch.stack([torch.eye(3), torch.diag(torch.tensor([1.0, 0.5, -0.4]))])
    with pytest.raises(ShapeError, match="matrix 1 of the batch is not positive semidefinite"):
        gcp.matrix_sqrt(P, rule="pade", form="published")


def test_whole_numbers():
    with pytest.raises(ShapeError, match=r"floating-point values are needed, got torch.int64"):
        gcp.matrix_sqrt(torch.eye(3, dtype=torch.int64)[None])


@pytest.mark.parametrize("solver", ["eig", *ITERATIVE])
def test_double_backward_raises(solver):
    """A linear loss has a constant upstream gradient: the guard must hang on P, or the term is lost in silence."""
    P, _ = matrix([2.0, 1.0, 0.5])
    P.requires_grad_()
    (gradient,) = torch.autograd.grad(gcp.matrix_sqrt(P, solver=solver).sum(), P, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        (gradient.square().sum() + P.square().sum()).backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtypes(dtype):
    P = torch.diag(torch.tensor([4.0, 1.0])).to(dtype)[None].requires_grad_()
    Q = gcp.matrix_sqrt(P)
    assert Q.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert Q.tolist() == [[[2.0, 0.0], [0.0, 1.0]]]
    Q.sum().backward()
    assert P.grad.dtype == dtype


def test_options_and_names():
    P = torch.eye(2)[None]
    with pytest.raises(UnknownNameError, match=r"unknown solver 'eigh'. Did you mean 'eig'"):
        gcp.matrix_sqrt(P, solver="eigh")
    with pytest.raises(UnknownNameError, match=r"unknown solver 'eigh'. Did you mean 'eig'"):
        gcp.matrix_sqrt(P, solver="eigh", rule="taylor")
    with pytest.raises(UnknownNameError, match=r"unknown rule 'pad'. Did you mean 'pade'"):
        gcp.matrix_sqrt(P, rule="pad")
    with pytest.raises(OptionError, match=r"'mpa' .*rule='taylor' .*solver='eig'"):
        gcp.matrix_sqrt(P, rule="taylor", solver="mpa")
    with pytest.raises(OptionError, match=r"'mpa' .*form='published' .*solver='eig'"):
        gcp.matrix_sqrt(P, solver="mpa", form="published")
    with pytest.raises(OptionError, match=r"form .*'fold'; allowed: folded, published\b.*Did you mean 'folded'"):
        gcp.matrix_sqrt(P, form="fold")
    with pytest.raises(OptionError, match="'exact' has no option 'side'"):
        gcp.matrix_sqrt(P, side="sample")
