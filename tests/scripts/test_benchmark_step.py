"""The benchmark of a training step: its rows, its baselines, and the part of the head."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmark_step import BASELINES, StepSetting, WideAverage, build, compare_steps, main

SCRIPTS = Path(__file__).parents[2] / "scripts"
TINY = StepSetting("resnet8_cifar", dim=4, num_classes=5, image_size=16, batch=2)
WORDS = ["--backbone", "resnet8_cifar", "--dim", "4", "--classes", "5", "--image-size", "16", "--batch", "2"]
WORDS += ["--repeats", "1", "--warmup", "0"]


def test_baselines_differ_in_width_alone():
    average, wide = (build(name, TINY, torch.device("cpu"), 0, {}) for name in BASELINES)
    covariance = build("svd_pade", TINY, torch.device("cpu"), 0, {"precision": "float32"})
    assert (average.classifier.in_features, wide.classifier.in_features) == (4, 10)
    assert wide.classifier.in_features == covariance.classifier.in_features
    x = torch.randn(2, 7, 3, 3)
    head = WideAverage(7)
    assert torch.equal(head(x)[:, :7], x.mean((2, 3))) and not head(x)[:, 7:].any() and head(x).shape == (2, 28)


def test_rows():
    result = compare_steps(["polar_express"], TINY, repeats=2, warmup=0, options={"products": "tf32"})
    rows = {row["head"]: row for row in result["rows"]}
    assert list(rows) == ["average", "wide_average", "polar_express"] and result["map"] == 4
    for row in rows.values():
        assert 0 < row["share"] < 1 and row["peak_mib"] > 0
        assert row["images_per_second"] == pytest.approx(2000 / row["step_ms"]["median"])
        assert row["of_average"] == pytest.approx(row["step_ms"]["median"] / rows["average"]["step_ms"]["median"])
    assert rows["wide_average"]["of_wide_average"] == 1


def test_command(tmp_path, call):
    target = tmp_path / "step.json"
    code, text, _ = call(main, ["--heads", "svd_pade", *WORDS, "--json", target])
    assert code == 0 and "map 4x4" in text and "wide_average" in text and max(map(len, text.splitlines()[1:])) <= 120
    assert {"setting", "options", "environment", "map", "rows"} == set(json.loads(target.read_text()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--heads", "svd_pad"], "head 'svd_pad'.*'svd_pade'"),
        (["--amp", "fp8"], "'fp8'"),
        (["--backbone", "resnet51"], "resnet51"),
    ],
)
def test_refusals(words, message, call):
    code, _, error = call(main, [*words, *(WORDS if words[0] == "--heads" else [])])
    assert code == 2 and re.search(message, error)


def test_scripts_explain_themselves(tmp_path):
    for name in ("benchmark_step", "benchmark_kernels"):
        command = [sys.executable, str(SCRIPTS / f"{name}.py"), "--help"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0 and f"usage: {name}.py" in done.stdout
