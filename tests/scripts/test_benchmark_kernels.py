"""The benchmark of kernels and eigensolvers, on the CPU where kernels are their own fallbacks."""

import re

import pytest
import torch
from benchmark_kernels import (
    compare_kernels,
    compare_solvers,
    goal_line,
    goals,
    kernel_line,
    main,
    solver_line,
    spectrum,
)

from gcp.functions import FUNCTIONS
from gcp.gradients import RULES

CPU = torch.device("cpu")


def test_spectra():
    values = torch.linalg.eigvalsh(spectrum("decaying", 8, 2, torch.float64, CPU))
    torch.testing.assert_close(
        values, torch.logspace(-6, 0, 8, dtype=torch.float64).expand(2, 8), rtol=1e-8, atol=1e-15
    )
    close = torch.linalg.eigvalsh(spectrum("close", 8, 1, torch.float64, CPU))[0]
    torch.testing.assert_close(close.diff(), torch.full((7,), 1e-6, dtype=torch.float64), rtol=1e-6, atol=0)


def test_solvers():
    rows = list(compare_solvers([6], [2], CPU, 1, 0))
    assert {(row["dtype"], row["spectrum"], row["route"]) for row in rows} == {
        (dtype, kind, "torch") for dtype in ("float32", "float64") for kind in ("decaying", "close")
    }
    for row in rows:
        assert max(row["residual"], row["orthogonality"]) < (1e-5 if row["dtype"] == "float32" else 1e-13)
        assert "residual" in solver_line(row) and len(solver_line(row)) <= 130


def test_kernels():
    rows = list(compare_kernels(6, 2, CPU, 1, 0))
    names = {row["kernel"] for row in rows}
    cores = {f"spectral_core {name}" for name in RULES} | {f"function_core {name}" for name in FUNCTIONS}
    assert names == cores | {"triangle_pack", "triangle_spread"}
    assert all("times as long" in kernel_line(row) for row in rows)


@pytest.mark.parametrize("side", [3, 5])
def test_goals(side):
    rows = goals(side, 12, 2, CPU, 1, 0)
    assert len(rows) == 6 and all(row["value"] > 0 for row in rows)
    assert goal_line({"what": "x", "value": 2.0, "at_most": 3}).endswith("reached")
    assert goal_line({"what": "x", "value": 2.0, "at_least": 3}).endswith("MISSED")


def test_command(tmp_path, call):
    target = tmp_path / "kernels.json"
    words = [
        "--device",
        "cpu",
        "--only",
        "solvers",
        "--sizes",
        "4",
        "--batches",
        "2",
        "--repeats",
        "1",
        "--warmup",
        "0",
    ]
    code, out, _ = call(main, [*words, "--json", target])
    assert code == 0 and target.exists() and out.count("residual") == 4
    code, _, error = call(main, ["--device", "cpu"])
    assert code == 2 and re.search("GPU.*--device cuda.*--only solvers", error)
