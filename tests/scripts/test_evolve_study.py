"""The study of evolving widths: settings that can be run, and tables of what has come out."""

import csv
import json
import re
from itertools import product

import evolve_study
import pytest
from evolve_study import ARMS, HEADS, OPTIMIZERS, STARTS, EvolutionRun, write_tables
from PIL import Image

from gcp.config import load

RECIPE = evolve_study.ROOT / evolve_study.RECIPE


@pytest.fixture
def finished(tmp_path):
    """Cells with results: 90 %, 91 %, ... in the order of arms, two points more with every seed but for noise."""
    cells = [EvolutionRun("narrow", "sgd", "average", seed, arm, tmp_path) for seed in range(3) for arm in ARMS]
    for cell in cells:
        top1 = 90 + ARMS.index(cell.arm) + 2 * cell.seed + 0.1 * (cell.seed == ARMS.index(cell.arm))
        result = {
            "test": {"final": {"top1": top1}},
            "validation": {"final": {"top1": 80.0}},
            "cost": {"parameters": 1000 + cell.seed, "seconds_per_step": 0.1},
            "seconds": 12.0,
            "widths": {"features.body.conv1": 9, "head.reduction": 5},
        }
        cell.folder.mkdir(parents=True)
        (cell.folder / "result.json").write_text(json.dumps(result))
    return cells


@pytest.mark.parametrize("start", STARTS)
def test_every_cell_can_be_run(start, tmp_path):
    for optimizer, head, arm in product(OPTIMIZERS, HEADS, ("fixed", "evolved")):
        cell = EvolutionRun(start, optimizer, head, 3, arm, tmp_path)
        config = load(RECIPE, cell.words())
        assert (config.evolve.every is None) == (arm == "fixed")
        assert (config.run.seed, config.head.name, config.optim.name) == (3, head, optimizer)
        assert config.model.widths["features.body.layer3.0.conv2"] == 64 * STARTS[start].factor


def test_from_scratch_with_the_final_widths(finished):
    config = load(RECIPE, finished[0].other("scratch").words())
    assert config.evolve.every is None and config.head.dim == 5 and config.model.widths == {"features.body.conv1": 9}


def test_tables(finished, tmp_path):
    (finished[-1].folder / "result.json").unlink()
    write_tables(tmp_path, finished, "the command")
    with open(tmp_path / "cells.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 and rows[1]["variant"] == "narrow, sgd, average, evolved" and rows[1]["test_top1"] == "91.0"
    with Image.open(tmp_path / "study.png") as image:
        assert image.size[0] > 1000 and len(image.convert("RGB").getcolors(100_000)) > 3
    table = (tmp_path / "table.md").read_text()
    assert "`the command`" in table and "8 of 9 runs." in table
    (line,) = (line for line in table.splitlines() if "average, evolved" in line)
    assert re.search(r"\| 3 \|.* 93\.03 ± 2\.00 .* 1,001 .* 12 .* \+1\.00 \(.* -0\.95 \(", line)


def test_finished_runs_stay(finished, tmp_path, call, monkeypatch):
    monkeypatch.setattr("subprocess.run", lambda *_, **__: pytest.fail("everything is finished"))
    words = ["--starts", "narrow", "--optimizers", "sgd", "--heads", "average", "--seeds", "3", "--out", str(tmp_path)]
    code, out, _ = call(evolve_study.main, words)
    assert code == 0 and "9 of 9 runs." in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--starts", "wid"], "'wid'"),
        (["--seeds", "0"], "--seeds.*'0'.*>= 1"),
        (["--out", "/proc/none"], "cannot make the folder"),
        (["run.name=x"], r"run\.name .*--out"),
        (["train.epochz=3"], r"train\.epochz: "),
        (["evolve.shrink_below=2"], r"evolve\.shrink_below.* 2"),
    ],
)
def test_refusals(words, message, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, error = call(evolve_study.main, words)
    assert code == 2 and re.search(message, error) and not list(tmp_path.iterdir())


def test_settings_of_evolution_are_those_of_the_runs_that_evolve(finished, monkeypatch):
    """One run is missing, and fails: the study says so."""
    commands = []

    class Failed:
        returncode = -9

    monkeypatch.setattr("subprocess.run", lambda command, **_: commands.append(command) or Failed)
    for cell in finished[:2]:
        (cell.folder / "result.json").unlink()
    words = ["--starts", "narrow", "--optimizers", "sgd", "--heads", "average", "--seeds", "1"]
    words += ["--out", str(finished[0].out), "train.epochs=2", "evolve.patience=1"]
    assert evolve_study.main(words) == 1
    (fixed,) = commands
    assert "train.epochs=2" in fixed and "evolve.patience=1" not in fixed
    assert "evolve.patience=1" in evolve_study._words(finished[1], ["evolve.patience=1"])
