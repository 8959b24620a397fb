"""The measurement of gradients from its command line."""

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gcp.cli.fidelity import main
from gcp.cli.main import run

SCRIPT = Path(__file__).parents[2] / "scripts" / "fidelity.py"
TINY = ["--dim", "3", "--draws", "1", "--precisions", "float32", "--sides", "channel"]


def rows_of(folder):
    with open(folder / "fidelity.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_sweep_into_a_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gcp.studies.fidelity.tables.draw", lambda rows, folder: [])
    folder = tmp_path / "of a study" / "ä"
    words = ["--rules", "exact", "--sweeps", "zero_channels", "--dim", "3", "4", *TINY[2:], "--out", str(folder)]
    assert run(main, words) == 0
    out = capsys.readouterr().out
    assert re.search("zero channels; d = 3", out) and "d = 4" not in out, "the first width is shown"
    rows = rows_of(folder)
    assert {(row["head"], row["oracle"], row["channels"]) for row in rows} == {
        ("svd_exact", "50 digits", "3"),
        ("svd_exact", "50 digits", "4"),
    }
    assert all(float(row["error"]) < 1e-5 for row in rows)
    about = json.loads((folder / "fidelity.json").read_text())
    assert set(about) == {"environment", "settings", "spectra", "float32", "oracles"}
    assert {"command", "packages"} <= set(about["environment"]) and about["settings"]["sweeps"] == ["zero_channels"]
    assert len(about["oracles"]) == len(rows) and max(each["largest_difference"] for each in about["oracles"]) < 1e-12


def test_float32_question(capsys):
    assert run(main, ["--heads", "svd_exact", "--sweeps", "condition", *TINY]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^svd_exact +up to 1e[456] ", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 120


def test_features_of_a_run(uninterrupted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(uninterrupted, tmp_path / "runs" / "x")
    words = ["--checkpoint", "x", "--heads", "svd_exact", "--batches", "2", "evaluate.batch_size=3", "split=val"]
    assert run(main, [*words, "--out", "found"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"x/best\.pt \(digits, val\): 6 .* 8 channels .*4 samples", out) and "effective rank" in out
    rows = rows_of(tmp_path / "found")
    assert {path.name for path in (tmp_path / "found" / "figures").iterdir()} == {
        "fidelity_features.svg",
        "fidelity_features.png",
    }
    assert {row["side"] for row in rows} == {"channel", "sample"} and {row["draws"] for row in rows} == {"6"}
    assert max(float(row["error"]) for row in rows) < 1e-2
    assert "x/best.pt (digits, val)" in json.loads((tmp_path / "found" / "fidelity.json").read_text())["spectra"]


def test_captured_features_are_those_that_the_head_pools(uninterrupted):
    """The head's own pooling of the captured map gives the logits of the model."""
    from gcp.engine.device import ToDevice
    from gcp.engine.distributed import ALONE
    from gcp.runs.open_model import open_model
    from gcp.studies.fidelity.features import capture

    scored_model = open_model(str(uninterrupted), ["evaluate.batch_size=5"], ALONE)
    loader = scored_model.loader(scored_model.splits().test, ALONE)
    batch = next(iter(loader.epoch(0)))
    to_device = ToDevice(torch.device("cpu"), loader.normalize)
    model = scored_model.model.train()
    maps = capture(model, [batch], to_device)
    assert not model.training
    with torch.no_grad():
        logits = model.logits(model.head.pool(maps))
        assert torch.allclose(logits, model(to_device(*batch)[0]), atol=1e-6)


@pytest.mark.parametrize("ending", ["npy", "pt"])
def test_features_of_a_file(ending, tmp_path, capsys):
    maps = np.random.default_rng(0).standard_normal((2, 3, 2, 2))
    path = tmp_path / f"maps.{ending}"
    np.save(path, maps) if ending == "npy" else torch.save(torch.from_numpy(maps), path)
    assert run(main, ["--features", str(path), "--heads", "svd_exact"]) == 0
    out = capsys.readouterr().out
    assert f"maps.{ending}: 2 maps of 3 channels and 4 samples" in out and "gradient error by" not in out


class Trap:
    """What a foreign file may hold: unpickling it would leave a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_nothing_in_a_file_is_executed(tmp_path, capsys):
    torch.save(Trap(str(tmp_path / "trace")), tmp_path / "maps.pt")
    np.save(tmp_path / "maps.npy", np.array([Trap(str(tmp_path / "trace"))], dtype=object), allow_pickle=True)
    for name in ("maps.pt", "maps.npy"):
        assert run(main, ["--features", str(tmp_path / name)]) == 2
        assert "neither an .npy file nor a saved tensor" in capsys.readouterr().err
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--heads", "svd_pad"], r"head 'svd_pad'.*'svd_pade'"),
        (["--heads", "svd_pade,svd_pi"], r"'svd_pade,svd_pi'.* svd_pade svd_pi"),
        (["--heads", "average"], r"average: .*svd_exact, "),
        (["--heads", "svd_exact", "--forms", "published"], r"svd_exact has no form published"),
        (["--rules", "tailor"], r"rule 'tailor'.*'taylor'"),
        (["--rules", "exact", "--heads", "seb"], r"--heads and --rules both choose heads"),
        (["--forms", "foldet"], r"form 'foldet'.*'folded'"),
        (["--precisions", "float16"], r"precision 'float16'.*'float(32|64)'"),
        (["--sides", "left"], r"unknown side 'left'"),
        (["--sweeps", "gaps"], r"sweep 'gaps'.*'gap'"),
        (["--dim", "1"], r"--dim.*'1'.*>= 2"),
        (["--draws", "0"], r"--draws is '0'"),
        (["--drawz", "2"], r"flag '--drawz'.*'--draws'"),
        (["svd_pade"], r"unexpected 'svd_pade'"),
        (["split=val"], r"'split=val'.*--checkpoint"),
        (["data.name=digits"], r"unexpected 'data.name=digits'"),
        (["--checkpoint", "x", "--features", "y"], r"leave one of them out"),
        (["--checkpoint", "no_such_run"], r"no_such_run"),
        (["--checkpoint", "no_such_run", "split=tets"], r"split 'tets'.*'test'"),
        (["--checkpoint", "x", "head.dim=3"], r"head.dim: cannot change in a measurement"),
        (["--features", "no_such.npy"], r"--features no_such.npy: no such file"),
        (["--out", "/proc/nothing"], r"--out /proc/nothing: cannot make that folder"),
    ],
)
def test_faults_are_said_before_anything_is_measured(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gcp.studies.fidelity.measure.measure", None)
    assert run(main, words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "Traceback" not in error
    assert re.search(message, error)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(2, 3, 4), r"\(B, C, H, W\) is needed"),
        (torch.zeros(2, 3, 1, 1), r"the feature map is 1x1"),
        (torch.full((2, 3, 2, 2), float("nan")), r"the features of sample 0"),
        (torch.zeros(2, 3, 2, 2, dtype=torch.int64), r"needs a tensor \(N, channels, height, width\)"),
        (torch.zeros(0, 3, 2, 2), r"needs a tensor"),
        ([1, 2], r"needs a tensor"),
    ],
)
def test_features_that_have_no_covariance(value, message, tmp_path, capsys):
    torch.save(value, tmp_path / "maps.pt")
    assert run(main, ["--features", str(tmp_path / "maps.pt")]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_constant_maps_are_measured(tmp_path, monkeypatch):
    """A covariance of zero: a gradient of zero, no condition number, and files that strict readers take."""
    monkeypatch.chdir(tmp_path)
    torch.save(torch.ones(2, 3, 2, 2), tmp_path / "maps.pt")
    words = ["--heads", "svd_exact", "polar_express", "--sides", "channel", "--out", "."]
    assert run(main, ["--features", "maps.pt", *words]) == 0
    assert {row["condition"] for row in rows_of(tmp_path)} == {"inf"}
    assert {row["error"] for row in rows_of(tmp_path)} == {""}

    def refuse(constant):
        raise ValueError(constant)

    json.loads((tmp_path / "fidelity.json").read_text(), parse_constant=refuse)


def test_script_runs_outside_its_folder(tmp_path):
    words = ["--heads", "svd_pi", "--sweeps", "samples", *TINY, "--threads", "1"]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "svd_pi published" in done.stdout and "UserWarning" not in done.stderr
    assert not list(tmp_path.iterdir())
