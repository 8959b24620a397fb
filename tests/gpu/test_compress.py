"""Factored layers on a card."""

import pytest
import torch
from torch import nn

from gcp.compress import decompose


@pytest.mark.parametrize("method", ["svd", "asvd", "output_pca"])
@pytest.mark.parametrize("target", [{"ratio": 1.0, "force": True}, {"params": 0.4}])
def test_factors_stay_on_the_device(method, target, device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 24, 3), nn.Conv2d(24, 8, 1), nn.Flatten(), nn.Linear(288, 20)).to(device)
    x = torch.randn(64, 6, 8, 8)
    small, report = decompose(model, method=method, data=x.split(16), **target)
    assert report.factored and {p.device for p in small.parameters()} == {device}
    on_cpu, again = decompose(model.cpu(), method=method, data=x.split(16), **target)
    assert [row.rank for row in report.rows] == [row.rank for row in again.rows]
    torch.testing.assert_close(small(x.to(device)).cpu(), on_cpu(x), atol=1e-3, rtol=1e-3)
