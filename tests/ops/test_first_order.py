"""The guard stays connected to what the gradient was computed from."""

import pytest
import torch

from gcp.ops.numerics import first_order


def test_value_passes_and_differentiation_raises():
    x = torch.ones(3, requires_grad=True)
    guarded = first_order(torch.arange(3.0), x)
    assert guarded.tolist() == [0.0, 1.0, 2.0] and guarded.requires_grad
    with pytest.raises(RuntimeError, match=r"double backward .*not implemented"):
        (guarded.sum() + x.sum()).backward()


def test_without_gradients_it_is_the_value():
    assert not first_order(torch.ones(3), torch.ones(3)).requires_grad
