"""The numbers of docs/heads.md, on a small scale."""

import json

import measure_heads


def test_agreement(monkeypatch):
    monkeypatch.setattr(measure_heads, "CONDITIONS", [100.0])
    monkeypatch.setattr(measure_heads, "GAPS", [0.0])
    monkeypatch.setattr(measure_heads, "NARROW", 6)
    rows = {(row["method"], "gap" in row): row for row in measure_heads.agreement(_Arguments())}
    assert rows["exact", True]["sides"] < 1e-9 < rows["taylor", True]["sides"]
    assert rows["polar_express", False]["precisions"] < 1e-4


class _Arguments:
    seed, warmup, repeats = 0, 0, 1


def test_cost(monkeypatch):
    monkeypatch.setattr(measure_heads, "MAPS", (3,))
    monkeypatch.setattr(measure_heads, "CHANNELS", 6)
    rows = {row["head"]: row for row in measure_heads.cost(_Arguments())}
    assert rows["svd_pade"]["over_svd_pade"] == 1 and rows["average"]["norm_over_average"] == 1
    json.dumps(list(rows.values()))
