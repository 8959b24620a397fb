"""The layers of this folder by name, and their plain matrices."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from gcp import layers

LINEAR = {
    "square": lambda **o: layers.Orthogonal(6, **o),
    "wide": lambda **o: layers.OrthogonalLinear(6, 4, **o),
    "tall": lambda **o: layers.OrthogonalLinear(4, 6, **o),
    "svd": lambda **o: layers.SVDLinear(6, 6, **o),
    "svd_wide": lambda **o: layers.SVDLinear(6, 4, **o),
    "svd_tall": lambda **o: layers.SVDLinear(4, 6, **o),
    "symmetric": lambda **o: layers.SymmetricLinear(6, **o),
}
CONVS = {
    "conv": lambda **o: layers.OrthogonalConv1x1(6, 4, **o),
    "svd_conv": lambda **o: layers.SVDConv1x1(6, 6, **o),
}
LAYERS = LINEAR | CONVS


def disturbed(layer):
    """The layer in float64 with parameters that training could have left."""
    layer = layer.double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return layer


@pytest.fixture(params=LAYERS)
def layer(request):
    """Every kind of layer, in float64 and away from its initial values."""
    torch.manual_seed(0)
    return disturbed(LAYERS[request.param]())


@pytest.fixture
def layer_of():
    """The same by name."""

    def layer_of(name):
        torch.manual_seed(0)
        return disturbed(LAYERS[name]())

    return layer_of


@pytest.fixture
def columns():
    """An input of about so many columns for a layer."""

    def columns(layer, count, features=None):
        generator = torch.Generator().manual_seed(1)
        features = features or layer.in_features
        shape = (count, features, 1, 1) if layer.axis == 1 else (count, features)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(next(layer.parameters()).dtype)

    return columns


@pytest.fixture
def plain():
    """What a layer computes, from its matrix alone."""

    def plain(layer, x):
        act = functional.conv2d if layer.axis == 1 else functional.linear
        return act(x, layer.weight, layer.bias)

    return plain


@pytest.fixture
def orthonormality():
    """The largest entry of W^T W - I, or of W W^T - I for more columns than rows."""

    def orthonormality(W):
        W = W.detach().flatten(1)
        W = W if len(W) >= W.shape[1] else W.mT
        return float((W.mT @ W - torch.eye(W.shape[1], dtype=W.dtype)).abs().amax())

    return orthonormality


@pytest.fixture
def stack():
    """Two layers with different blocks, to see whether they meet."""
    return lambda: nn.Sequential(layers.Orthogonal(12, block=2), layers.Orthogonal(12, block=5))
