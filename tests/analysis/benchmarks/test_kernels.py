"""The benchmark of kernels and eigensolvers, on the CPU where kernels are their own twins."""

from contextlib import nullcontext

import pytest
import torch

from gcp.analysis.benchmarks.kernels import compare_kernels, compare_solvers, goals, spectrum
from gcp.cli.benchmarks.kernels import goal_line, kernel_line, main, solver_line
from gcp.cli.main import run
from gcp.gradients import RULES
from gcp.measure import timed

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
    assert names == {f"spectral_core {name}" for name in RULES} | {"triangle_pack", "triangle_spread"}
    assert all("times as long" in kernel_line(row) for row in rows)


@pytest.mark.parametrize("side", [3, 5])
def test_goals(side):
    rows = goals(side, 12, 2, CPU, 1, 0)
    assert len(rows) == 6 and all(row["value"] > 0 for row in rows)
    assert goal_line({"what": "x", "value": 2.0, "at_most": 3}).endswith("reached")
    assert goal_line({"what": "x", "value": 2.0, "at_least": 3}).endswith("MISSED")


def test_command(tmp_path, capsys):
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
    assert run(main, [*words, "--json", str(target)]) == 0 and target.exists()
    assert capsys.readouterr().out.count("residual") == 4
    assert run(main, ["--device", "cpu"]) == 2
    assert "kernels and goals are of a GPU; type --device cuda, or --only solvers" in capsys.readouterr().err


@pytest.mark.parametrize("ahead", [False, True])
def test_a_gpu_is_kept_busy_while_kernels_are_launched(ahead, monkeypatch):
    """Between the events is what the GPU does, not what it waits for."""
    order = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            order.append("event")

        def synchronize(self):
            order.append("wait")

        def elapsed_time(self, other):
            return 1.5

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append("wait"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: order.append("sleep"), raising=False)
    assert timed(lambda: order.append("call"), torch.device("cuda"), ahead) == (None, 1.5)
    assert order == ["wait", *["sleep"] * ahead, "event", "call", "event", "wait"]
