"""The benchmark of flows: every form in every phase, ratios over svd, and refusals before any work."""

import json

import pytest

from gcp.cli.benchmarks.glow import main, read_settings
from gcp.errors import GCPError, OptionError

SIZES = {"channels": 4, "size": 8, "levels": 1, "steps": 1, "width": 4, "batch": 2, "repeats": 2, "warmup": 0}
SMALL = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]


def test_every_form_and_phase(tmp_path, capsys):
    assert main([*SMALL, "--json", str(tmp_path / "times.json")]) == 0
    out = capsys.readouterr().out
    assert "convolution alone, 4 channels, 2 maps of 2 x 2" in out and "flow, 1 level of 1 step, width 4" in out
    points = json.loads((tmp_path / "times.json").read_text())["points"]
    assert len(points) == 2
    for point in points:
        rows = {row["form"]: row for row in point["rows"]}
        assert list(rows) == ["plain", "plu", "svd"] and set(rows["svd"]["ratio"].values()) == {1.0}
        for row in rows.values():
            for phase in ("forward", "inverse", "both", "kept"):
                times = row["time_ms"][phase]
                assert 0 < times["min"] <= times["median"] <= times["max"]
                expected = times["median"] / rows["svd"]["time_ms"][phase]["median"]
                assert row["ratio"][phase] == pytest.approx(expected)


def test_refusals():
    with pytest.raises(OptionError, match="--size is 20; allowed: a multiple of 8"):
        read_settings({"--size": ["20"]})
    with pytest.raises(OptionError, match="--batch is '0'"):
        read_settings({"--batch": ["0"]})
    with pytest.raises(GCPError, match="takes flags only"):
        main(["flow.form=svd"])
    with pytest.raises(OptionError, match="not a file in a folder that exists"):
        read_settings({"--json": ["/nowhere/at/all.json"]})
