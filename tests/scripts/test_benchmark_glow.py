"""The benchmark of flows: every form in every phase, ratios over svd, and refusals before any work."""

import json
import re

import pytest
from benchmark_glow import main

SIZES = {"channels": 4, "size": 8, "levels": 1, "steps": 1, "width": 4, "batch": 2, "repeats": 2, "warmup": 0}
SMALL = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]


def test_every_form_and_phase(tmp_path, call):
    code, out, _ = call(main, [*SMALL, "--json", tmp_path / "times.json"])
    assert code == 0
    assert re.search("convolution.* 4 channels, 2 maps.* 2 x 2", out) and re.search(
        "flow, 1 level.* 1 step, width 4", out
    )
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "20"], "--size.*20.*multiple of 8"),
        (["--batch", "0"], "--batch.*'0'"),
        (["flow.form=svd"], "flow.form=svd"),
        (["--json", "/nowhere/at/all.json"], "not a file in a folder that exists"),
    ],
)
def test_refusals(words, message, call):
    code, _, error = call(main, words)
    assert code == 2 and re.search(message, error)
