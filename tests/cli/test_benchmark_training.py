"""The benchmark of loop and loader from its command line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gcp.analysis.benchmarks.loading import CONTESTANTS
from gcp.cli.benchmarks.training import main
from gcp.cli.main import run

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_training.py"
TINY = ["--repeats", "2", "--warmup", "0", "--threads", "1", "--images", "4", "--batch", "2", "--size", "32"]
SPREAD = {"median", "min", "max"}


def test_loader_measures_every_contestant_on_the_same_files(tmp_path, capsys):
    target = tmp_path / "result.json"
    assert run(main, ["loader", *TINY, "--json", str(target)]) == 0
    result = json.loads(target.read_text())
    assert set(result) == {"settings", "environment", "loader"}
    point = result["loader"]
    assert (point["images"], point["workers"], point["threads"]) == (4, 0, 1)
    assert [row["loader"] for row in point["rows"]] == list(CONTESTANTS)
    for row in point["rows"]:
        assert all(set(row[key]) == SPREAD for key in ("images_per_second", "cpu_ms", "speedup"))
        assert 0 < row["images_per_second"]["min"] <= row["images_per_second"]["max"]
    assert point["rows"][0]["speedup"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    out = capsys.readouterr().out
    assert all(name in out for name in CONTESTANTS) and max(map(len, out.splitlines())) <= 120


def test_loader_with_workers_knows_no_processor_time(tmp_path, capsys):
    target = tmp_path / "result.json"
    assert run(main, ["loader", *TINY, "--workers", "1", "--json", str(target)]) == 0
    rows = json.loads(target.read_text())["loader"]["rows"]
    assert [row["cpu_ms"] for row in rows] == [None] * len(CONTESTANTS)
    assert "1 worker each" in capsys.readouterr().out


def test_loop_measures_both_loops(tmp_path, capsys):
    target = tmp_path / "result.json"
    words = ["loop", "--repeats", "2", "--warmup", "0", "--size", "8", "--batch", "512", "--head", "average"]
    assert run(main, [*words, "--dim", "4", "--json", str(target)]) == 0
    point = json.loads(target.read_text())["loop"]
    assert point["images"] == 1294 and [row["loop"] for row in point["rows"]] == ["fit", "bare"]
    assert set(point["ratio"]) == set(point["data_wait"]) == SPREAD
    assert 0.2 < point["ratio"]["median"] < 2  # of the same order at least, on any machine
    out = capsys.readouterr().out
    assert "fit / bare" in out and "data wait" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lop"], r"unknown topic 'lop'. Did you mean 'loop'\?"),
        (["loader", "--workers", "-1"], r"--workers needs a value|unknown flag '-1'"),
        (["loader", "--images", "0"], r"--images is '0'; allowed: a whole number >= 1"),
        (["loader", "--batch", "1"], r"--batch is '1'; allowed: a whole number >= 2"),
        (["loop", "--amp", "fp8"], r"unknown amp 'fp8'"),
        (["loop", "--device", "tpu"], r"--device is 'tpu'; allowed: cpu, cuda"),
        (["loop", "--head", "svd_pad"], r"unknown head 'svd_pad'. Did you mean 'svd_pade'"),
        (["loop", "--backbone", "resnet20_cifa"], r"resnet20_cifar"),
        (["loop", "batch=4"], r"takes flags only"),
        (["loop", "--json", "/no/such/folder/x.json"], r"not a file in a folder that exists"),
    ],
)
def test_faults_are_one_line(words, message, capsys):
    assert run(main, words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert re.search(message, error)


def test_script_runs_outside_its_folder(tmp_path):
    done = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "benchmark_training.py [loop] [loader]" in done.stdout


def test_monitor_measures_a_step_with_and_without(tmp_path, capsys):
    target = tmp_path / "result.json"
    words = ["monitor", "--repeats", "2", "--warmup", "0", "--size", "16", "--batch", "20", "--dim", "4"]
    assert run(main, [*words, "--json", str(target)]) == 0
    point = json.loads(target.read_text())["monitor"]
    assert (point["map"], point["channels"], point["images"], point["every"]) == (16, 4, 16, 50)
    assert set(point["step"]) == set(point["observation"]) == set(point["share"]) == SPREAD
    assert point["step"]["min"] > 0 and point["share"]["median"] < 50
    out = capsys.readouterr().out
    assert "observation of 16 images, 4 channels, 16 samples" in out and "one step out of 50" in out
