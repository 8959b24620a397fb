"""Tokens (B, N, C) in the place of a map: every head takes them as the map (B, C, N, 1)."""

import pytest
import torch

import gcp
from gcp.errors import ShapeError


@pytest.mark.parametrize("name", [str(name) for name in gcp.list_heads()])
@pytest.mark.parametrize("dim", [None, 4])
def test_tokens_are_a_map_of_one_column(name, dim):
    torch.manual_seed(0)
    head = gcp.create_head(name, 6, dim=dim).double().eval()
    tokens = torch.randn(2, 9, 6, dtype=torch.float64, requires_grad=True)
    x = tokens.detach().mT.contiguous()[..., None].requires_grad_()
    out, expected = head(tokens), head(x)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(tokens.grad, x.grad[..., 0].mT, rtol=1e-8, atol=1e-8)


def test_tokens_of_another_width():
    with pytest.raises(ShapeError, match=r"tokens \(B, N, 6\).*\(2, 9, 5\).*built for 6 channels"):
        gcp.create_head("svd_pade", 6)(torch.randn(2, 9, 5))
