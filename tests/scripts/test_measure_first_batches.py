"""Every command prints a row for each head and writes its numbers."""

import json

import measure_first_batches as script
import pytest
import torch


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Maps of two classes that differ in their mean, where the script keeps those of a backbone."""
    monkeypatch.setattr(script, "SIZED", ("covariance", "bilinear"))
    monkeypatch.setattr(script, "TRAINED", ("covariance",))
    monkeypatch.setattr(script, "RATES", (0.01, 0.1))
    labels = torch.arange(40) % 2
    maps = torch.rand(40, 12, 3, 3, generator=torch.Generator().manual_seed(0)) + labels[:, None, None, None]
    torch.save({"name": "tiny", "splits": dict.fromkeys(script.SPLITS, (maps, labels))}, tmp_path / "maps.pt")
    return ["--cache", tmp_path / "maps.pt", "--json", tmp_path / "out.json", "--epochs", 1, "--seeds", 2]


@pytest.mark.parametrize(
    ("command", "words", "rows"),
    [("sizes", ["--dims", 2], 6), ("rates", ["--dim", 4], 10), ("starts", ["--dim", 4], 16)],
)
def test_numbers(command, words, rows, cached, call):
    code, out, err = call(script.main, [command, *cached, *words])
    assert code == 0, err
    assert "tiny" in out and "average" in out
    written = json.loads(cached[3].read_text())
    assert len(written["rows"]) == rows
