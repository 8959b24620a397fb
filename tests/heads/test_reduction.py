"""The two reductions: the same start, and what `orthogonal` keeps."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from gcp.errors import OptionError
from gcp.heads import create_head
from gcp.heads.reduction import Reduction, create_reduction, trained_weight


def made(reduction, in_channels=12, dim=5):
    torch.manual_seed(3)
    return create_reduction(reduction, in_channels, dim), torch.rand(())


def error(weight):
    """Distance of the shorter side's Gram matrix from the identity."""
    W = weight.detach().double().flatten(1)
    W = W if W.shape[0] <= W.shape[1] else W.mT
    return float((W @ W.mT - torch.eye(len(W), dtype=W.dtype)).abs().max())


def test_conv_is_the_plain_layer():
    reduction, _ = made("conv")
    torch.manual_seed(3)
    plain = nn.Conv2d(12, 5, 1, bias=False)
    nn.init.kaiming_normal_(plain.weight, mode="fan_out", nonlinearity="relu")
    assert torch.equal(reduction.conv.weight, plain.weight)
    assert trained_weight(reduction) is reduction.conv.weight
    assert list(reduction.state_dict())[:2] == ["0.weight", "1.weight"]


@pytest.mark.parametrize(("in_channels", "dim"), [(12, 5), (6, 6), (5, 12)])
def test_orthogonal_starts_at_the_polar_factor_of_the_same_weight(in_channels, dim):
    """And draws nothing beyond, so that a run with either has the same classifier."""
    plain, after = made("conv", in_channels, dim)
    orthogonal, after_too = made("orthogonal", in_channels, dim)
    assert after == after_too
    W = plain.conv.weight.detach().double().flatten(1)
    U, _, Vh = torch.linalg.svd(W, full_matrices=False)
    assert torch.allclose(orthogonal.conv.weight.double().flatten(1), U @ Vh, atol=1e-5)
    assert isinstance(orthogonal.conv, nn.Conv2d) and error(orthogonal.conv.weight) < 1e-6


@pytest.mark.parametrize("dim", [5, 16])
def test_orthogonal_stays_so_in_training(dim):
    head = create_head("svd_pade", 12, dim=dim, reduction="orthogonal")
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5, momentum=0.9)
    before = head.reduction.conv.weight.detach().clone()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        optimizer.zero_grad()
        head(torch.randn(4, 12, 5, 5, generator=generator)).square().sum().sqrt().backward()
        optimizer.step()
    assert error(head.reduction.conv.weight) < 1e-6
    assert float((head.reduction.conv.weight - before).detach().abs().max()) > 0.01


def test_orthogonal_is_copied_and_saved():
    reduction, _ = made("orthogonal")
    x = torch.rand(2, 12, 4, 4)
    copy, other = deepcopy(reduction).eval(), create_reduction("orthogonal", 12, 5).eval()
    other.load_state_dict(reduction.state_dict())
    wanted = reduction.eval()(x)
    assert torch.equal(copy(x), wanted) and torch.equal(other(x), wanted)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.allclose(reduction(x).float(), wanted, atol=0.05)


def test_without_channels_to_reduce_there_is_none():
    assert isinstance(create_reduction("orthogonal", 12, None), nn.Identity)


def test_the_weight_of_orthogonal_has_no_gradient_of_its_own():
    for reduction in (made("orthogonal")[0], nn.Identity()):
        with pytest.raises(OptionError, match=r"optim\.nog .*optim\.olr .*reduction"):
            trained_weight(reduction)


def test_any_constraint():
    """The kinds are functions of the convolution."""
    reduction = Reduction(3, 2, lambda conv: conv.requires_grad_(False))
    assert not trained_weight(reduction).requires_grad


def test_unknown():
    with pytest.raises(OptionError, match=r"reduction .*'ortogonal'; allowed: conv, orthogonal.* Did you mean"):
        create_reduction("ortogonal", 12, 5)
