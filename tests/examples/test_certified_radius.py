"""What the example proves holds against an attack, and power iteration proves nothing."""

import importlib.util
from pathlib import Path

import pytest
import torch

FILE = Path(__file__).parents[2] / "examples/certified_radius.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("certified_radius", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_exact_norm_is_a_proof(example):
    found = example.train(example.METHODS["exact"], steps=40)
    assert found["above"] == 0 and found["bound"] <= 1 + 1e-5 and found["accuracy"] > 0.5
    assert torch.equal(found["claimed"][0], found["true"][0]) and found["true"].diff().max() <= 0
    images, classes = example.digits()
    images, classes, model = images[-100:], classes[-100:], found["model"]
    radii = example.margins_of(model(images), classes).clamp_min(0) / 2**0.5
    moved = images.clone().requires_grad_()
    for _ in range(10):  # down the margin, as far as is certified
        (step,) = torch.autograd.grad(example.margins_of(model(moved), classes).sum(), moved)
        offset = moved.detach() - step / step.norm(dim=1, keepdim=True).clamp_min(1e-12) * radii[:, None] - images
        offset = offset * (radii[:, None] / offset.norm(dim=1, keepdim=True).clamp_min(1e-12)).clamp_max(1)
        moved = (images + 0.999 * offset).requires_grad_()
    safe = radii > 0
    assert safe.any() and (example.margins_of(model(moved), classes)[safe] > -1e-6).all()


def test_power_iteration_is_none(example, tmp_path, capsys):
    found = example.train(example.METHODS["power iteration (torch)"], steps=20)
    assert found["above"] > 0.5 and found["greatest"] > 1.01
    example.main(["--steps", "2", "--plot", str(tmp_path / "curves.png")])
    assert (tmp_path / "curves.png").stat().st_size > 5000
    exact, power = capsys.readouterr().out.splitlines()
    assert exact.startswith("exact: a norm above 1 after 0 %") and "power iteration" in power
