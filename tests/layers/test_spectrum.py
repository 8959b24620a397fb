"""Singular values: maps and bounds, determinant, norm, condition number, functions of a symmetric matrix."""

import pytest
import torch

from gcp.errors import OptionError, ShapeError, UnknownNameError
from gcp.layers import Orthogonal, SVDConv1x1, SVDLinear, SymmetricLinear
from gcp.layers.spectrum import SPECTRA, SingularValues, create_map

FAR = torch.tensor([-1e4, -30.0, -3.0, -1e-3, 0.0, 1e-3, 2.0, 30.0, 1e4], dtype=torch.float64)


@pytest.mark.parametrize("name", SPECTRA)
def test_values_stay_within_the_bounds(name):
    kind = create_map(name)
    low, high = kind.bounds
    values = kind.values(FAR)
    assert (values >= low * (1 - 1e-12)).all() and (values <= high * (1 + 1e-12)).all()
    assert torch.allclose(kind.logarithms(FAR)[values != 0], values[values != 0].abs().log(), atol=1e-12)


@pytest.mark.parametrize("name", [name for name in SPECTRA if name != "fixed"])
def test_parameter_of_values_gives_them_back(name):
    kind = create_map(name)
    values = torch.tensor([0.6, 0.9, 1.0, 1.2, 1.4], dtype=torch.float64)
    assert torch.allclose(kind.values(kind.parameter(values)), values, rtol=1e-12)
    assert torch.autograd.gradcheck(kind.values, (kind.parameter(values).requires_grad_(),))


def test_formulas():
    r = torch.tensor([-2.0, 0.5], dtype=torch.float64)
    assert torch.allclose(create_map("exp", limit=3.0).values(r), torch.exp(3 * torch.tanh(r / 3)))
    assert torch.allclose(create_map("softplus", eps=0.1).values(r), torch.log1p(torch.exp(r)) + 0.1)
    assert torch.allclose(create_map("box", width=0.1).values(r), 1 + 0.1 * torch.tanh(r))
    assert create_map("fixed", value=2.0).values(r).tolist() == [2, 2]
    assert create_map("free").values(r) is r


def test_fixed_trains_nothing_and_the_others_start_at_one():
    assert not list(SingularValues(3, "fixed").parameters())
    for name in SPECTRA:
        assert torch.allclose(SingularValues(3, name)(), torch.ones(3))


def test_unknown_names_and_options():
    with pytest.raises(UnknownNameError, match=r"unknown spectrum 'bx'. Did you mean 'box'"):
        SVDLinear(3, 3, spectrum="bx")
    with pytest.raises(OptionError, match="'box' has no option 'limit': it takes width"):
        SVDLinear(3, 3, spectrum="box", limit=2)
    with pytest.raises(OptionError, match="option width of 'box' is 0; allowed"):
        SVDLinear(3, 3, spectrum="box", width=0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("spectrum", ["exp", "softplus", "box", "free", "fixed"])
def test_determinant_norm_and_condition(spectrum, seed):
    torch.manual_seed(seed)
    layer = SVDLinear(5, 5, spectrum=spectrum).double()
    with torch.no_grad():
        layer.spectrum.raw.normal_()
    sign, logarithm = torch.linalg.slogdet(layer.weight)
    got = layer.slogdet()
    assert got[0] == sign and torch.allclose(got[1], logarithm, atol=1e-12)
    values = torch.linalg.svdvals(layer.weight)
    assert torch.allclose(layer.sigma_max(), values[0]) and torch.allclose(layer.sigma_min(), values[-1])
    assert torch.allclose(layer.cond(), torch.linalg.cond(layer.weight))


def test_both_signs_of_the_determinant_occur():
    signs = {float(Orthogonal(4).slogdet()[0]) for _ in range(30)}
    assert signs == {-1.0, 1.0}
    for layer in (Orthogonal(4), Orthogonal(5, reflectors=3), Orthogonal(3, reflectors=8)):
        assert layer.slogdet()[0] == torch.linalg.det(layer.weight).round()


def test_log_determinant_of_a_convolution():
    """Against the Jacobian of the map of a whole image."""
    layer = SVDConv1x1(3, 3).double()
    with torch.no_grad():
        layer.spectrum.raw.normal_()
    x = torch.randn(1, 3, 2, 3, dtype=torch.float64)
    J = torch.autograd.functional.jacobian(layer, x).reshape(18, 18)
    sign, logarithm = torch.linalg.slogdet(J)
    got = layer.slogdet(positions=6)
    assert got[0] == sign and torch.allclose(got[1], logarithm)


def test_gradient_of_log_determinant_and_inverse():
    layer, y = SVDLinear(4, 4).double(), torch.randn(3, 4, dtype=torch.float64)
    leaves = list(layer.parameters())
    W, b = layer.weight, layer.bias
    expected = torch.autograd.grad(torch.linalg.slogdet(W)[1] + torch.linalg.solve(W, (y - b).mT).sin().sum(), leaves)
    got = torch.autograd.grad(layer.slogdet()[1] + layer.inverse(y).sin().sum(), leaves)
    for a, e in zip(got, expected, strict=True):
        assert torch.allclose(a, e, atol=1e-11)


def test_a_determinant_needs_a_square_matrix():
    with pytest.raises(ShapeError, match="a determinant needs a square matrix, W is 4 x 3"):
        SVDLinear(3, 4).slogdet()


@pytest.mark.parametrize("count", [2, 40])
def test_functions_of_a_symmetric_matrix(count):
    layer = SymmetricLinear(5).double()
    with torch.no_grad():
        layer.spectrum.raw.normal_()
        layer.bias.normal_()
    W, x = layer.weight, torch.randn(count, 5, dtype=torch.float64)
    eye = torch.eye(5, dtype=torch.float64)
    assert torch.allclose(W, W.mT, atol=1e-13)
    assert torch.allclose(layer.exp(x), x @ torch.linalg.matrix_exp(W).mT)
    assert torch.allclose(layer.cayley(x), x @ ((eye - W) @ torch.linalg.inv(eye + W)).mT)
    assert torch.allclose(layer.function(torch.square, x), x @ (W @ W).mT)
    assert torch.allclose(layer.slogdet()[1], torch.linalg.slogdet(W)[1])
    assert layer.slogdet()[0] == torch.linalg.slogdet(W)[0]
    assert torch.allclose(torch.linalg.eigvalsh(W), layer.eigenvalues.sort().values)
    layer.eval()
    with torch.no_grad():
        assert torch.allclose(layer.exp(x), x @ torch.linalg.matrix_exp(W).mT)
