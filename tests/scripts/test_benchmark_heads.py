"""The benchmark of the heads from its command line."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from benchmark_heads import Shape, Variant, compare, main, published

from gcp.studies.fidelity.methods import root_heads

SCRIPT = Path(__file__).parents[2] / "scripts" / "benchmark_heads.py"
TINY = ["--batch", "2", "--dim", "8", "--map", "3", "--repeats", "1", "--warmup", "0"]
HEADS = ["svd_exact", "svd_pade", "newton_schulz", "polar_express", "average"]


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The JSON file of one small benchmark."""
    target = tmp_path_factory.mktemp("benchmark") / "result.json"
    assert main(["--heads", *HEADS, *TINY, "--baseline", "--json", str(target)]) == 0
    return json.loads(target.read_text())


def rows_of(result):
    (point,) = result["points"]
    return {row["head"]: row for row in point["rows"]}


def test_json_holds_everything(result):
    assert set(result) == {"settings", "environment", "notes", "points"}
    assert set(result["notes"]) == {"machine", "features", "reference", "columns", "baseline"}
    assert {"command", "processor", "threads", "packages"} <= set(result["environment"])
    (point,) = result["points"]
    assert set(point) == {"batch", "dim", "map", "condition", "unit_ms", "full_rank_unit_ms", "rows"}
    assert set(point["unit_ms"]) == set(point["full_rank_unit_ms"]) == {"median", "min", "max"}
    assert list(rows_of(result)) == HEADS
    for row in point["rows"]:
        for figures in (row, row["baseline"]):
            assert set(figures["time_ms"]) == set(figures["eigh_units"]) == {"forward", "backward", "both"}
            assert set(figures["error"]) == {"output", "gradient"}
            assert set(figures["memory_mib"]) == {"saved", "peak"}
        assert set(row["ratio"]) == {"forward", "backward", "both", "saved", "peak"}


@pytest.mark.parametrize("key", ["output", "gradient"])
def test_errors_are_those_of_the_methods(result, key):
    error = {name: row["error"][key] for name, row in rows_of(result).items()}
    assert max(error[name] for name in ("svd_exact", "svd_pade", "average")) < 1e-5
    assert error["newton_schulz"] > 1e-2


def test_reference_and_baseline_of_each_head(result):
    rows = rows_of(result)
    references = {name: row["reference"] for name, row in rows.items()}
    assert references == dict.fromkeys(HEADS, "svd_exact") | {"average": "average"}
    baselines = {name: row["baseline"]["head"] for name, row in rows.items()}
    assert baselines == dict.fromkeys(HEADS, "svd_original") | {"svd_pade": "svd_pade"}
    assert {row["baseline"]["form"] for row in rows.values()} == {"published"}
    assert {row["baseline"]["side"] for row in rows.values()} == {"channel"}


def test_table_fits_its_width(capsys):
    assert main(["--heads", "average", "svd_pade", *TINY, "--baseline"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    assert "batch 2, d 8, map 3x3" in text and "average*" in text and "peak x" in text


def test_plot(tmp_path):
    from PIL import Image

    target = tmp_path / "times.png"
    assert main(["--heads", "average", "polar_express", *TINY, "--products", "tf32", "--plot", str(target)]) == 0
    with Image.open(target) as image:
        assert image.format == "PNG" and min(image.size) > 200


def test_default_heads_take_a_root():
    assert {"svd_exact", "newton_schulz", "polar_express", "mpa_lyapunov"} <= set(root_heads())
    assert not {"average", "covariance", "bilinear", "compact_bilinear", "seb"} & set(root_heads())


def test_arguments_that_a_head_does_not_take_are_left_out():
    words = ["--heads", "average", "newton_schulz", *TINY, "--precision", "float64", "--side", "channel"]
    assert main(words) == 0


def test_baseline_is_the_published_form_of_the_same_rule():
    assert published("svd_taylor") == Variant("svd_taylor", "channel", "published", None)
    assert published("polar_express", "float64") == Variant("svd_original", "channel", "published", "float64")


def test_smaller_side_needs_less_memory_than_the_published_form():
    result = compare([Variant("svd_pade")], Shape(4, 64, 3), repeats=1, warmup=0, baseline=True)
    (row,) = result["rows"]
    assert row["ratio"]["peak"] < 0.5
    assert row["ratio"]["saved"] < 0.5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--heads", "svd_pad"], "head 'svd_pad'.*'svd_pade'"),
        (["--map", "0"], "--map.*'0'.*>= 1"),
        (["--map", "1", "--dim", "4"], "at least two samples"),
        (["--dtype", "flot32"], "'flot32'"),
        (["--device", "tpu9"], "'tpu9'.*cpu, cuda"),
        (["--baselin"], "--baselin"),
        (["svd_pade"], "svd_pade"),
        (["--json", "/no/such/folder/x.json"], "not a file in a folder that exists"),
    ],
)
def test_refusals(words, message, call):
    code, _, error = call(main, words)
    assert code == 2 and re.search(message, error) and "Traceback" not in error


def test_script_runs_outside_its_folder(tmp_path):
    words = ["--heads", "svd_*", "--precision", "float32", *TINY, "--threads", "1"]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "svd_topn" in done.stdout
    assert "profiler" not in done.stderr
