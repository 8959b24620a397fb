"""`gcp doctor`: every head is tried, and one that is wrong is seen."""

import pytest
import torch

from gcp.cli import doctor
from gcp.errors import GCPError
from gcp.heads import HEADS


def test_every_head_is_tried(capsys):
    state = torch.random.get_rng_state()
    assert doctor.main([]) == 0
    out = capsys.readouterr().out
    assert (
        all(f"\n{name} " in out for name in map(str, HEADS.list()))
        and torch.__version__.partition("+")[0] in out
        and "WRONG" not in out
    )
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_wrong_head_is_seen(factor, capsys, monkeypatch):
    """On what stands for a card: float32."""
    from gcp.heads.average import Average

    right = Average.pool
    monkeypatch.setattr(Average, "pool", lambda self, x: right(self, x) * (factor if x.dtype == torch.float32 else 1))
    assert doctor.main([]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "WRONG" in line]
    assert line.startswith("average ")


def test_what_cannot_be():
    with pytest.raises(GCPError, match="'gpu'"):
        doctor.main(["gpu"])
