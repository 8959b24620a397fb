"""Importing does nothing: no heavy library, no device, no random state; measured in a fresh process."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = """
import random, sys
import torch
state, python_state = torch.random.get_rng_state(), random.getstate()
before = set(sys.modules)
import {module}
heavy = {{"timm", "torchvision", "cupy", "matplotlib", "sklearn", "scipy", "tensorboard", "tqdm"}}
heavy |= {{"torch._dynamo"}}  # the compiler: a second, for who only builds a head
print("heavy:", sorted(heavy & (set(sys.modules) - before)))
print("cuda:", torch.cuda.is_initialized())
print("rng:", torch.equal(torch.random.get_rng_state(), state) and random.getstate() == python_state)
"""


@pytest.mark.parametrize("module", ["gcp", "gcp.heads, gcp.sqrtm, gcp.gradients, gcp.solvers"])
def test_import_is_light(module):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(module=module)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:3] == ["heavy: []", "cuda: False", "rng: True"]


def test_a_head_needs_torch_only():
    """Building and running heads loads no model library either."""
    script = (
        "import sys, torch, gcp\n"
        "for name in gcp.list_heads():\n"
        "    gcp.create_head(name, 4)(torch.rand(2, 4, 3, 3))\n"
        "print(sorted({'timm', 'torchvision', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


def test_public_names():
    import gcp

    for name in (
        "covariance_sqrt",
        "create_head",
        "create_model",
        "list_heads",
        "load",
        "matrix_sqrt",
        "spectral_weight",
    ):
        assert name in gcp.__all__ and callable(getattr(gcp, name))
    with pytest.raises(AttributeError, match="module 'gcp' has no attribute 'create_haed'"):
        _ = gcp.create_haed
