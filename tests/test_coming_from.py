"""docs/coming_from.md: what the users of other projects run first, and what these projects test, against ours.

Each source's minimal example and test logic, written anew from its definition; further tests of the same formulas are
in tests/layers/test_fasth.py, tests/conformance/test_reference.py (outputs of the published heads),
tests/models/test_layouts.py (their files), tests/configs/test_scripts.py (their commands),
tests/compress/test_fc_decomposer.py and tests/callbacks/conditioning.
"""

import re
from copy import deepcopy
from pathlib import Path

import numpy
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import SelectAdaptivePool2d
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import gcp
import gcp.timm
from gcp import layers
from gcp.evolve import grow, shrink, trace
from gcp.layers.fasth import LinearSVD, Orthogonal, fasthpp

DOCUMENT = Path(__file__).parents[1] / "docs" / "coming_from.md"


def close(a, b, tolerance=1e-5):
    return bool((a - b).norm() <= tolerance * b.norm())


def gradients(function, x, *parameters):
    x = x.detach().clone().requires_grad_()
    out = function(x)
    weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), [x, *parameters])]


def same(found, wanted, tolerance=1e-6):
    assert len(found) == len(wanted)
    for mine, theirs in zip(found, wanted, strict=True):
        assert close(mine, theirs, tolerance)


# FastH


def test_fasth():
    """Multiplication, inverse and reconstruction to 1e-5, an encoding that is none of X, a step of three layers."""
    torch.manual_seed(42)
    d, batch = 96, 32  # any d: there m has to divide it, and fasthpp wants a power of two
    X, Y = torch.randn(d, batch), torch.randn(d, batch)
    fast, sequential = Orthogonal(d, 32, "fast"), Orthogonal(d, 32, "sequential")
    sequential.load_state_dict(fast.state_dict())
    encoded = fast.forward(X)
    assert torch.allclose(encoded, sequential(X), atol=1e-5) and not torch.allclose(encoded, X, atol=1e-5)
    assert torch.allclose(fast.inverse(encoded), X, atol=1e-5)
    V = F.normalize(torch.randn(d, d), dim=0)
    product = torch.eye(d)
    for v in V.T:
        product = product @ (torch.eye(d) - 2 * torch.outer(v, v))
    assert torch.allclose(fasthpp(V, X, stop_recursion=4), product @ X, atol=1e-5)
    net = nn.Sequential(Orthogonal(d, 32), Orthogonal(d, 32), LinearSVD(d))
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        losses.append(F.mse_loss(net(X), Y))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] and net[2].D.grad is not None  # there the singular values are not trained


# DifferentiableSVD


def published_pade(x):
    """The factor of SVD-Pade is 1 / (l_i - l_j): the textbook gradient of the root, by autograd through eigh."""
    M = x.shape[2] * x.shape[3]
    X = x.flatten(2)
    X = X - X.mean(2, keepdim=True)
    values, V = torch.linalg.eigh(X @ X.mT / M)
    Q = (V * values.sqrt()[:, None, :]) @ V.mT
    rows, columns = torch.triu_indices(*Q.shape[1:])
    return Q[:, rows, columns]


@pytest.mark.parametrize("name", ["svd_pade", "svd_exact", "svd_original", "polar_express"])
def test_differentiable_svd(name):
    x = torch.randn(2, 6, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    options = {"side": "channel", "precision": "float64"}
    head = gcp.create_head(name, 6, **options)
    assert head.out_features == 21  # output_dim there
    same(gradients(head, x), gradients(published_pade, x), 1e-8 if name != "polar_express" else 1e-7)


def test_differentiable_svd_keeps_reduction_and_outputs():
    """Representation(input_dim, dimension_reduction): a convolution without bias, batch norm, ReLU, then the root."""
    head = gcp.create_head("svd_pade", in_channels=32, dim=8)
    conv, norm, relu = head.reduction
    assert conv.bias is None and conv.weight.shape == (8, 32, 1, 1) and norm.num_features == 8
    assert isinstance(relu, nn.ReLU) and head(torch.randn(2, 32, 4, 4)).shape == (2, 36)


# fast-MPN-COV


def newton_schulz(P, steps):
    trace_ = P.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    identity = torch.eye(P.shape[1], dtype=P.dtype).expand_as(P)
    Y, Z = P / trace_, identity
    for _ in range(steps):
        T = (3 * identity - Z @ Y) / 2
        Y, Z = Y @ T, T @ Z
    return Y * trace_.sqrt()


@pytest.mark.parametrize("steps", [3, 5])
def test_fast_mpn_cov(steps):
    """CovpoolLayer, SqrtmLayer(., iterN) and TriuvecLayer, whose gradients are those of autograd."""
    x = torch.randn(2, 5, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def theirs(x):
        X = x.flatten(2) - x.flatten(2).mean(2, keepdim=True)
        Q = newton_schulz(X @ X.mT / 16, steps)
        rows, columns = torch.triu_indices(5, 5)
        return Q[:, rows, columns]

    same(gradients(gcp.create_head("newton_schulz", 5, iterations=steps, precision="float64"), x), gradients(theirs, x))
    P = torch.randn(3, 4, 9, dtype=torch.float64)
    P = P @ P.mT
    mine = gradients(lambda P: gcp.matrix_sqrt(P, solver="newton_schulz", iterations=steps), P)
    _, theirs_gradient = gradients(lambda P: newton_schulz(P, steps), P)
    same(mine, [newton_schulz(P, steps), (theirs_gradient + theirs_gradient.mT) / 2])  # of a symmetric matrix


# timm


@pytest.mark.parametrize(("head", "pool"), [("average", "avg"), ("max", "max"), ("avg_max", "avgmax")])
def test_timm_pooling(head, pool):
    x = torch.randn(2, 8, 5, 5)
    theirs = SelectAdaptivePool2d(pool_type=pool, flatten=True)
    same(gradients(gcp.create_head(head, 8), x), gradients(theirs, x))


def test_timm_model():
    model = timm.create_model("gcp_resnet18", head="svd_pade", dim=8, num_classes=3).eval()
    x = torch.randn(2, 3, 64, 64)
    map_ = model.forward_features(x)
    assert map_.shape[1] == model.num_features and torch.equal(model.forward_head(map_), model(x))
    ours = gcp.create_model("resnet18", head="svd_pade", dim=8, num_classes=3).eval()
    ours.load_state_dict(model.state_dict())
    assert torch.equal(ours(x), model(x))
    average = gcp.create_model("resnet18", head="average", num_classes=3).eval()
    plain = timm.create_model("resnet18", num_classes=3).eval()
    average.load_state_dict(plain.state_dict())  # timm's own names
    assert close(average(x), plain(x))


# torch.nn.utils.parametrizations


def test_torch_orthogonal():
    """Orthonormal, a value that is assigned stays, a step stays orthogonal, the parametrisation comes off."""
    torch.manual_seed(0)
    layer = layers.orthogonal(nn.Linear(24, 12), "weight")
    assigned = torch.linalg.qr(torch.randn(24, 12)).Q.T
    layer.weight = assigned
    assert close(layer.weight, assigned)
    optimizer = torch.optim.SGD(layer.parameters(), 1.0)
    layer(torch.randn(5, 24)).square().sum().backward()
    optimizer.step()
    assert close(layer.weight @ layer.weight.T, torch.eye(12)) and not close(layer.weight, assigned, 1e-2)
    value = layer.weight.detach().clone()
    parametrize.remove_parametrizations(layer, "weight")
    assert close(layer.weight, value)
    # what differs: a 1x1 convolution is one matrix here, and one number after the other there
    ours = layers.orthogonal(nn.Conv2d(8, 4, 1), "weight").weight.flatten(1)
    theirs = parametrizations.orthogonal(nn.Conv2d(8, 4, 1), "weight").weight.flatten(1)
    assert close(ours @ ours.T, torch.eye(4)) and torch.equal(theirs.abs(), torch.ones(4, 8))


def test_torch_spectral_norm():
    torch.manual_seed(0)
    layer = nn.Linear(24, 12)
    exact = torch.linalg.svdvals(layer.weight.detach())[0]
    theirs = parametrizations.spectral_norm(deepcopy(layer), n_power_iterations=100)
    assert close(layers.spectral_norm(deepcopy(layer), "exact").weight, layer.weight / exact)
    assert close(theirs.weight, layer.weight / exact, 1e-3)
    assert torch.linalg.svdvals(layers.spectral_norm(deepcopy(layer), "bound").weight.detach())[0] <= 1 + 1e-6


# IterNorm and ZCA


def published_iternorm(x, size, steps, eps=1e-5):
    """(B, C, H, W) -> whitened in groups of `size`, in training; autograd gives the gradient."""
    X = x.transpose(0, 1).reshape(x.shape[1] // size, size, -1)
    X = X - X.mean(2, keepdim=True)
    identity = torch.eye(size, dtype=x.dtype)
    S = X @ X.mT / X.shape[2] + eps * identity
    trace_ = S.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
    P = identity.expand_as(S)
    for _ in range(steps):
        P = (3 * P - P @ P @ P @ (S / trace_)) / 2
    out = (P / trace_.sqrt()) @ X
    return out.reshape(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)


def published_zca(x, size, eps=1e-5):
    X = x.transpose(0, 1).reshape(x.shape[1] // size, size, -1)
    X = X - X.mean(2, keepdim=True)
    values, V = torch.linalg.eigh(X @ X.mT / X.shape[2] + eps * torch.eye(size, dtype=x.dtype))
    out = (V * values.rsqrt()[:, None, :]) @ V.mT @ X
    return out.reshape(x.shape[1], x.shape[0], *x.shape[2:]).transpose(0, 1)


@pytest.mark.parametrize(("size", "steps"), [(4, 1), (4, 5), (8, 10)])
def test_iternorm(size, steps):
    """The two forms of the published test: the layer, and its iteration under autograd, with random sizes there."""
    x = torch.randn(6, 8, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = layers.Whitening2d(8, group_size=size, solver="newton_schulz", iterations=steps).double()
    same(gradients(ours, x), gradients(lambda x: published_iternorm(x, size, steps), x), 1e-9)


def test_zca():
    x = torch.randn(6, 8, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    same(gradients(layers.Whitening2d(8, group_size=4).double(), x), gradients(lambda x: published_zca(x, 4), x), 1e-9)


# Glow, and its study with singular values


@pytest.mark.parametrize("form", ["plain", "plu", "svd"])
def test_invertible_convolution(form):
    """z = W x with log-det H W log|det W|, and back; all three forms begin at one matrix."""
    torch.manual_seed(0)
    W = torch.linalg.qr(torch.randn(12, 12)).Q * torch.linspace(0.5, 2, 12)
    layer = layers.InvertibleConv1x1.from_matrix(W, form)
    x = torch.randn(2, 12, 5, 5)
    z, logarithm = layer(x)
    sign, wanted = torch.linalg.slogdet(W.double())
    assert close(z, F.conv2d(x, W[:, :, None, None])) and close(layer.inverse(z), x)
    assert layer.slogdet()[0] == sign and (logarithm - 25 * wanted).abs().max() < 1e-3


# SVD-evolutive-CNN


class ResBlock(nn.Module):
    """Two convolutions beside the input, whose channels are repeated as often as needed."""

    def __init__(self, inputs, inner, outputs):
        super().__init__()
        self.repeat, self.outputs = -(-outputs // inputs), outputs
        self.first, self.second = nn.Conv2d(inputs, inner, 3, padding=1), nn.Conv2d(inner, outputs, 3, padding=1)

    def forward(self, x):
        beside = torch.tile(x, (1, self.repeat, 1, 1))[:, : self.outputs]
        return beside + self.second(F.leaky_relu(self.first(x), 0.2))


def test_evolutive_cnn():
    """Its network with blocks 1-7-24 and 24-48-32: inner widths shrink and grow, and the training goes on."""
    torch.manual_seed(0)
    model = nn.Sequential(ResBlock(1, 7, 24), ResBlock(24, 48, 32), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 10))
    images, labels = torch.randn(32, 1, 8, 8), torch.arange(32) % 10
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    before = model(images)
    F.cross_entropy(before, labels).backward()
    dimensions = trace(model, images)
    assert dimensions["1.first"].width == 48 and dimensions["1.first"].reason is None
    assert "joins" in dimensions["0.second"].reason  # a width that is repeated stays
    grow(model, "1.first", 60, optimizer=optimizer, example=images)
    assert torch.equal(model(images), before) or close(model(images), before, 1e-6)
    with torch.no_grad():  # 20 channels that others repeat: superfluous, and a share of the energy
        for tensor in model[1].first.parameters():
            tensor[40:60] = tensor[:20]
    before = model(images)
    report = shrink(model, "1.first", 40, images, optimizer=optimizer)
    assert report.error < 1e-5 and close(model(images), before, 1e-4)  # there a linear pair alone lost 17 %
    optimizer.zero_grad()
    F.cross_entropy(model(images), labels).backward()
    optimizer.step()
    assert model[1].first.weight.shape[0] == 40 and torch.isfinite(model(images)).all()


# The document


def rows():
    text = DOCUMENT.read_text()
    return re.findall(r"^\| \*\*(.+?)\*\* \|", text, re.MULTILINE)


def test_every_source_has_its_row():
    assert rows() == [
        "FastH",
        "DifferentiableSVD",
        "fast-MPN-COV (iSQRT-COV)",
        "timm",
        "torch parametrizations",
        "IterNorm, Decorrelated BN",
        "Glow, FastH in Glow",
        "OrthoImproveCond",
        "fasterai FC_Decomposer",
        "SVD-evolutive-CNN",
    ]


def test_the_lines_of_the_document_run():
    """Its Python blocks, in their order, in one namespace."""
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert blocks
    torch.manual_seed(0)
    space = {"torch": torch, "nn": nn, "gcp": gcp, "numpy": numpy}
    for block in blocks:
        exec(block, space)
