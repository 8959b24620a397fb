"""The benchmark of layers: methods that compute the same thing, and its command line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmark_layers import METHODS, Sizes, hardest, householder_product, main, select, sequential

from gcp.layers import householder_apply

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_layers.py"
TINY = ["--dim", "8", "16", "--columns", "3", "--repeats", "1", "--warmup", "0"]


def test_the_sequential_product_is_ours():
    V, X = torch.randn(7, 5, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    assert torch.allclose(sequential(V, X), householder_apply(V, X))


def test_torchs_product_is_ours():
    V, X = torch.randn(5, 5, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    reflectors = V.mT.tril(-1).mT + torch.eye(5, dtype=torch.float64)
    assert torch.allclose(householder_product(V, X), householder_apply(reflectors, X))


@pytest.mark.parametrize("task", ["apply", "build"])
def test_methods_are_orthogonal(task):
    for name in select(task, None):
        if name != "dense":
            work = METHODS[task][name](Sizes(16, 5))
            (out,) = work.call()
            x = work.leaves[0]
            lengths = x.norm(dim=1) if task == "apply" else torch.ones(2)
            assert torch.allclose(out.norm(dim=1), lengths, atol=1e-4), name


def test_log_determinants_and_inverses():
    for name in select("logdet", None):
        work = METHODS["logdet"][name](Sizes(6, 4))
        logarithm, x = work.call()
        assert logarithm.shape == () and x.shape == (4, 6)
        assert len(torch.autograd.grad((logarithm, x), work.leaves, (logarithm, x), allow_unused=True)) > 1


def test_kept_norms():
    """At the same size, far from the others where nothing is promised."""
    norms = {name: hardest(name, 16) for name in ("gcp", "exact", "svd_box", "power_1", "dense")}
    assert max(norms[name]["greatest"] for name in ("gcp", "exact", "svd_box")) <= 1 + 1e-5
    assert norms["dense"]["greatest"] > norms["power_1"]["greatest"] > 1.01


def test_everything_is_written(tmp_path, call):
    files = ["--json", tmp_path / "r.json", "--plot", tmp_path / "r.png"]
    code, text, _ = call(main, ["--methods", "sequential", "dense", "torch_cayley", "--blocks", "4", *TINY, *files])
    assert code == 0
    assert max(map(len, text.splitlines())) <= 120
    assert "spectral, d 8, 3 columns" in text and "last norm" in text
    assert "apply, d 8, 3 columns" in text and "build, (2, 16)" in text
    result = json.loads((tmp_path / "r.json").read_text())
    assert set(result) == {"settings", "environment", "points"} and len(result["points"]) == 8
    rows = {row["method"]: row for row in result["points"][0]["rows"]}
    assert list(rows) == ["gcp", "sequential", "torch_cayley", "dense", "gcp:4"]
    assert rows["gcp"]["ratio"]["both"] == 1 and rows["dense"]["time_ms"]["both"]["median"] > 0
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "aply"], "'aply'"),
        (["--methods", "sequentil"], "method 'sequentil'.*'sequential'"),
        (["--blocks", "x"], "--blocks.*'x'.*>= 1"),
    ],
)
def test_refusals(words, message, call):
    code, _, error = call(main, words)
    assert code == 2 and re.search(message, error)


def test_script_runs_outside_its_folder(tmp_path):
    words = ["--tasks", "logdet", *TINY]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "logdet, d 16" in done.stdout
