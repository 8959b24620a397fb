"""The benchmark of loop and loader from its command line."""

import json
import re

import pytest
from benchmark_training import main
from benchmarked_loaders import LOADERS

TINY = ["--repeats", "2", "--warmup", "0", "--threads", "1", "--images", "4", "--batch", "2", "--size", "32"]
SPREAD = {"median", "min", "max"}


def test_loader_measures_every_loader_on_the_same_files(tmp_path, call):
    target = tmp_path / "result.json"
    code, out, _ = call(main, ["loader", *TINY, "--json", target])
    assert code == 0
    result = json.loads(target.read_text())
    assert set(result) == {"settings", "environment", "loader"}
    point = result["loader"]
    assert (point["images"], point["workers"], point["threads"]) == (4, 0, 1)
    assert [row["loader"] for row in point["rows"]] == list(LOADERS)
    for row in point["rows"]:
        assert all(set(row[key]) == SPREAD for key in ("images_per_second", "cpu_ms", "speedup"))
        assert 0 < row["images_per_second"]["min"] <= row["images_per_second"]["max"]
    assert point["rows"][0]["speedup"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert all(name in out for name in LOADERS) and max(map(len, out.splitlines())) <= 120


def test_loader_with_workers_knows_no_processor_time(tmp_path, call):
    target = tmp_path / "result.json"
    code, out, _ = call(main, ["loader", *TINY, "--workers", "1", "--json", target])
    assert code == 0
    rows = json.loads(target.read_text())["loader"]["rows"]
    assert [row["cpu_ms"] for row in rows] == [None] * len(LOADERS)
    assert "1 worker each" in out


def test_loop_measures_both_loops(tmp_path, call):
    target = tmp_path / "result.json"
    words = ["loop", "--repeats", "2", "--warmup", "0", "--size", "8", "--batch", "512", "--head", "average"]
    code, out, _ = call(main, [*words, "--dim", "4", "--json", target])
    assert code == 0
    point = json.loads(target.read_text())["loop"]
    assert point["images"] == 1294 and [row["loop"] for row in point["rows"]] == ["fit", "bare"]
    assert set(point["ratio"]) == set(point["data_wait"]) == SPREAD
    assert 0.2 < point["ratio"]["median"] < 2  # of the same order at least, on any machine
    assert "fit / bare" in out and "data wait" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["lop"], "topic 'lop'.*'loop'"),
        (["loader", "--batch", "1"], "--batch.*'1'.*>= 2"),
        (["loop", "--head", "svd_pad"], "head 'svd_pad'.*'svd_pade'"),
        (["loop", "--backbone", "resnet20_cifa"], "resnet20_cifar"),
    ],
)
def test_refusals(words, message, call):
    code, _, error = call(main, words)
    assert code == 2 and re.search(message, error)


def test_monitor_measures_a_step_with_and_without(tmp_path, call):
    target = tmp_path / "result.json"
    words = ["monitor", "--repeats", "2", "--warmup", "0", "--size", "16", "--batch", "20", "--dim", "4"]
    code, out, _ = call(main, [*words, "--json", target])
    assert code == 0
    point = json.loads(target.read_text())["monitor"]
    assert (point["map"], point["channels"], point["images"], point["every"]) == (16, 4, 16, 50)
    assert set(point["step"]) == set(point["observation"]) == set(point["share"]) == SPREAD
    assert point["step"]["min"] > 0 and point["share"]["median"] < 50
    assert re.search("observation.* 16 images, 4 channels, 16 samples", out) and "one step out of 50" in out
