"""Costs and sweep of compressed models, and their pictures."""

import pytest
import torch
from torch import nn

from gcp.compress import decompose
from gcp.runs.compression.sweep import costs, draw_layers, draw_sweep, sweep


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 100), nn.ReLU(), nn.Linear(100, 10)).train()


def test_costs():
    dense, images = model(), torch.randn(16, 3, 8, 8)
    small, _ = decompose(dense, rank=5)
    found = costs({"dense": dense, "small": small}, images, repeats=2)
    assert found["dense"].parameters == 193 * 100 + 101 * 10
    assert found["dense"].weights_mib == pytest.approx(4 * found["dense"].parameters / 2**20)
    assert found["dense"].peak_mib * 2**20 >= 4 * 16 * 100 and found["small"].latency_ms > 0
    assert dense.training and costs({"dense": dense}, images, 1, memory=False)["dense"].peak_mib is None


def test_sweep_has_every_value_by_every_method_and_says_what_cannot_be(tmp_path):
    dense, images, said = model(), torch.randn(64, 3, 8, 8), []
    points = sweep(dense, "params", [0.001, 0.3, 0.6], images.split(16), lambda m: 50.0, images[:8], say=said.append)
    assert [(point.method, point.value) for point in points] == [("dense", None)] + [
        (method, value) for value in (0.3, 0.6) for method in ("svd", "asvd", "output_pca")
    ]
    assert len(said) == 3 and all("params=0.001 cannot be met" in line for line in said)
    assert all(point.parameters <= point.value * points[0].parameters for point in points[1:])
    draw_sweep(points, tmp_path / "sweep.png")
    draw_layers(decompose(dense, params=0.5)[1], tmp_path / "layers.png")
    assert (tmp_path / "sweep.png").stat().st_size > 5000 and (tmp_path / "layers.png").stat().st_size > 5000
