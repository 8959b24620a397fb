"""After a thousand steps of gradient descent the layers are what they were made to be."""

import pytest
import torch

from gcp.layers import Orthogonal, OrthogonalLinear, SVDLinear


def train(layer, steps, lr):
    """Momentum SGD towards a random linear map, with large steps."""
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(layer.in_features, layer.out_features, generator=generator) * layer.in_features**-0.5
    optimizer = torch.optim.SGD(layer.parameters(), lr, momentum=0.9)
    first = None
    for _ in range(steps):
        x = torch.randn(16, layer.in_features, generator=generator)
        loss = (layer(x) - x @ target).square().mean()
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return first, loss.item()


def round_trip(layer, count=64):
    x = torch.randn(count, layer.in_features)
    return (layer.inverse(layer(x)) - x).abs().max().item()


@pytest.mark.parametrize("d", [128, 512])
def test_orthogonality_and_round_trip(d, orthonormality):
    torch.manual_seed(0)
    layer = Orthogonal(d)
    before = layer.weight.detach().clone()
    first, last = train(layer, 1000, lr=5.0)
    assert last < 0.9 * first and not torch.allclose(layer.weight, before, atol=1e-2)
    assert orthonormality(layer.weight) <= 5e-6
    assert round_trip(layer) <= 2e-5
    layer.eval()
    with torch.no_grad():
        assert round_trip(layer) <= 2e-5


@pytest.mark.parametrize("size", [(128, 48), (48, 128)])
def test_rectangular_layers_stay_orthonormal(size, orthonormality):
    torch.manual_seed(0)
    layer = OrthogonalLinear(*size)
    train(layer, 200, lr=5.0)
    assert orthonormality(layer.weight) <= 5e-6


def test_singular_values_stay_in_their_box():
    """Steps so large that a free weight would leave any bound."""
    torch.manual_seed(0)
    layer = SVDLinear(64, 64, spectrum="box", width=0.2)
    train(layer, 300, lr=20.0)
    values = torch.linalg.svdvals(layer.weight.detach().double())
    assert values[0] <= 1.2 + 1e-5 and values[-1] >= 0.8 - 1e-5
    assert layer.cond() <= 1.5 + 1e-5 and round_trip(layer) <= 5e-5
