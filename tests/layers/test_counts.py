"""What is never called, and how few steps are sequential."""

from unittest import mock

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from gcp.layers import Orthogonal, SVDLinear, householder_apply


class Count(TorchDispatchMode):
    """Counts the operations that arrive at the device."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.calls += function.overloadpacket in (torch.ops.aten.bmm, torch.ops.aten.baddbmm, torch.ops.aten.mm)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("k", [64, 256])
def test_products_grow_with_the_blocks_only(k):
    V, X = torch.randn(k, k, requires_grad=True), torch.randn(k, 4, requires_grad=True)
    with Count() as count:
        torch.autograd.grad(householder_apply(V, X, 32).sum(), (V, X))
    assert count.calls <= 6 * (k // 32) + 5


def test_no_decomposition_is_called():
    names = ("svd", "qr", "eigh", "inv", "slogdet", "det", "solve", "householder_product")
    layer, x = SVDLinear(8, 8), torch.randn(3, 8)
    patches = [mock.patch(f"torch.linalg.{name}", side_effect=AssertionError(name)) for name in names]
    for patch in patches:
        patch.start()
    try:
        out = layer.inverse(layer(x)).sum() + layer.slogdet()[1] + layer.cond()
        out.backward()
        Orthogonal(8).weight.sum().backward()
    finally:
        for patch in patches:
            patch.stop()
