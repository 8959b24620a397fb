"""Importing does nothing: no heavy library, no device, no random state; measured in a fresh process."""

import re
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


@pytest.mark.parametrize("module", ["gcp", "gcp.heads, gcp.roots, gcp.gradients, gcp.solvers"])
def test_import_is_light(module):
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT.format(module=module)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:3] == ["heavy: []", "cuda: False", "rng: True"]


NOT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
import torch, gcp
for name in gcp.list_heads():
    gcp.create_head(name, 4)(torch.rand(2, 4, 3, 3, requires_grad=True)).sum().backward()
gcp.covariance_sqrt(torch.rand(2, 4, 3, 3)), gcp.matrix_sqrt(torch.eye(3)[None]), gcp.spectral_weight(torch.rand(2, 4))
print("done")
"""


def test_a_head_needs_torch_only():
    """In an environment that has nothing else: every other package of ours is absent."""
    project = (ROOT / "pyproject.toml").read_text()
    names = set(re.findall(r'"([a-z0-9-]+)>=', project)) - {"setuptools", "torch", "mpmath"}  # mpmath: torch needs it
    modules = {"pyyaml": "yaml", "scikit-learn": "sklearn", "grad-cam": "pytorch_grad_cam", "cupy-cuda13x": "cupy"}
    absent = {modules.get(name, name) for name in names} | {"PIL", "pandas", "safetensors"}
    assert {"numpy", "timm", "torchvision", "yaml", "sklearn", "cupy", "onnx"} <= absent
    script = NOT_TORCH.format(names=absent)
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.strip() == "done", result.stderr


def test_public_names():
    import gcp

    for name in (
        "covariance_function",
        "covariance_sqrt",
        "create_head",
        "create_model",
        "list_heads",
        "load",
        "matrix_function",
        "matrix_sqrt",
        "spectral_weight",
    ):
        assert name in gcp.__all__ and callable(getattr(gcp, name))
    with pytest.raises(AttributeError, match="module 'gcp' has no attribute 'create_haed'"):
        _ = gcp.create_haed
