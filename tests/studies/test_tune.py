"""Settings of each variant's own, and values that are chosen for it on validation images."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

import gcp.cli.ablate
from gcp.cli.main import run
from gcp.config import load
from gcp.errors import GCPError
from gcp.studies import tune
from gcp.studies.cells import DONE, cells_of, check, config_of, lay_out
from gcp.studies.grid import Study, variants
from gcp.studies.report import write_report
from gcp.studies.study_file import load_study

SETTINGS = """\
config: small.yaml
overrides: [train.epochs=1, model.dropout=0, train.ema=null, train.mixup=0, data.transform=none]
seeds: [3]
variants:
  average: {head.name: average}
  narrow average: {head.name: average, head.dim: 4}
  wide average: {head.name: wide_average, head.dim: 4}
  root: {head.name: svd_pade, head.dim: 4, optim.weight_decay: 0.001}
tune: {optim.lr: [0.01, 0.1]}
"""


@pytest.fixture
def study(here):
    (here / "own.yaml").write_text(SETTINGS)
    found, faults = load_study(Path("own.yaml"))
    assert not faults
    return found


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def faults_of(here, text):
    (here / "own.yaml").write_text(text)
    return "\n".join(load_study(Path("own.yaml"))[1])


def test_a_variant_has_its_own_settings(study):
    every = check(study)
    assert [variant.label for variant in every] == ["average", "narrow average", "wide average", "root"]
    configs = {variant.label: config_of(study, variant) for variant in every}
    assert configs["average"].head.dim is None and configs["narrow average"].head.dim == 4
    assert configs["root"].optim.weight_decay == 0.001 and configs["average"].optim.weight_decay == 1e-4
    assert len({cell.id for cell in cells_of(study, Path("x"))}) == 4


def test_the_wide_average_has_the_classifier_of_the_root():
    import gcp

    wide, root = (gcp.create_head(name, 12, dim=4) for name in ("wide_average", "svd_pade"))
    assert wide.out_features == root.out_features == 10


@pytest.mark.parametrize(
    "change, text",
    [
        (("root: {", "root: {optim.lr: 0.3, "), r"optim\.lr: given once as a setting and once to vary"),
        (("root: {", "root: {run.seed: 3, "), r"run\.seed: set by --seeds"),
        (("head.name: svd_pade", "head.name: svd_pad"), r"root: head\.name: .*svd_pade"),
        (("[0.01, 0.1]", "[0.01, -1]"), r"optim\.lr: "),
    ],
)
def test_faults_before_anything_is_run(here, capsys, change, text):
    (here / "own.yaml").write_text(SETTINGS.replace(*change))
    assert run(gcp.cli.ablate.main, ["--study", "own.yaml"]) == 2
    assert re.search(text, capsys.readouterr().err) and not (here / "runs").exists()


@pytest.mark.parametrize(
    "change, text",
    [
        (("root: {", "root: 3 #"), "variants: .*allowed: names with a mapping"),
        (("tune: {optim.lr: [0.01, 0.1]}", "tune: {optim.lr: 0.1}"), r"tune: .*optim\.lr: \[0\.01, 0\.03, 0\.1\]"),
        (("seeds: [3]", "tune_seeds: 0"), "tune_seeds: .*at least 1"),
    ],
)
def test_faults_of_the_file(here, change, text):
    assert re.search(text, faults_of(here, SETTINGS.replace(*change)))


@pytest.mark.parametrize(
    "words, text",
    [
        (["--tune", "optim.lr=0.1"], r"--tune optim\.lr=0\.1: one value"),
        (["--probe", "train.mixup=0"], r"train\.cache_views: auto with data\.transform: default.*cache_views|none"),
        (["--probe"], r"train\.mixup: .*train\.cache_features"),
        (["--tune"], r"--tune needs a value, such as optim\.lr="),
        (["--tune", "optim.lr=0.1,0.1"], r"--tune optim\.lr=0\.1,0\.1: .*twice"),
        (["--tune", "optim.lr=0.1,0.2", "--grid", "optim.lr=0.1,0.2"], r"optim\.lr: given once as a setting"),
        (["--tune", "optim.lr=0.1,0.2", "--tune-seeds", "0"], "--tune-seeds.*>= 1"),
    ],
)
def test_faults_of_the_flags(here, capsys, words, text):
    assert run(gcp.cli.ablate.main, ["--config", "small.yaml", "--heads", "svd_pade", "average", *words]) == 2
    assert re.search(text, capsys.readouterr().err)


def finish(trial, scores):
    """What finished runs of a trial leave."""
    for cell, (top1, loss) in zip(trial.cells, scores, strict=True):
        cell.folder.path.mkdir(parents=True)
        final = {"top1": top1, "loss": loss}
        cell.folder.result.write_text(json.dumps({"test": {"final": {}}, "validation": {"final": final}}))


def test_the_highest_mean_on_validation_is_chosen(study, tmp_path):
    two = Study(**study.plain() | {"tune": {"optim.lr": [0.01, 0.1, 1.0]}, "tune_seeds": 2})
    every = tune.trials(two, tmp_path, variants(two))
    assert len(every) == 4 * 3 and {cell.seed for trial in every for cell in trial.cells} == {1_000_000, 1_000_001}
    with pytest.raises(GCPError, match=r"average; narrow average.*data\.val_fraction"):
        tune.choose(every)
    for number, trial in enumerate(every):
        finish(trial, {0: [(50, 1), (90, 1)], 1: [(80, 1), (70, 1)], 2: [(70, 1), (80, 0.5)]}[number % 3])
    assert tune.choose(every) == {v.label: {"optim.lr": 1.0} for v in variants(two)}  # the lower loss
    done = Study(**two.plain() | {"chosen": tune.choose(every)})
    assert config_of(done, variants(done)[0]).optim.lr == 1.0
    tune.write_log(tmp_path, done, every)
    rows = rows_of(tmp_path / "tuning.csv")
    assert len(rows) == 24 and sum(row["chosen"] == "1" for row in rows) == 8
    assert {row["optim.lr"] for row in rows if row["chosen"] == "1"} == {"1.0"}
    assert "test" not in ",".join(rows[0])
    notes = "\n".join(tune.notes(done))
    assert "6 runs to be tuned, 3 settings (optim.lr=0.01,0.1,1.0) with 2 seeds each" in notes
    assert notes.count("Warning: optim.lr=1.0 is the largest") == 4


@pytest.mark.parametrize(
    "values, chosen, text",
    [
        ([0.01, 0.1, 1], 0.1, ""),
        ([1, 0.01, 0.1], 0.01, "smallest"),
        (["sgd", "adamw"], "sgd", ""),
        ([True, False], True, ""),
    ],
)
def test_the_edge_of_what_was_tried(values, chosen, text):
    found = tune.edges({"key": values}, {"key": chosen})
    assert [text in line for line in found] == ([True] if text else [])


def test_tuned_run_reported_and_not_begun_again(zygote, here, study):
    answer = zygote.train(here, "--study", "own.yaml", "--probe", "--jobs", "2", command="gcp.cli.ablate")
    assert answer.code == 0, answer
    assert 1 <= answer.out.count("are to be computed") <= 4  # of each seed's weights, perhaps in two parts
    folder = here / "runs/studies/own"
    saved = yaml.safe_load((folder / "study.yaml").read_text())
    rows = rows_of(folder / "tuning.csv")
    assert len(rows) == 8 and {row["state"] for row in rows} == {DONE}
    for label, values in saved["chosen"].items():
        own = [row for row in rows if row["variant"] == label]
        best = max(own, key=lambda row: (float(row["val_top1"]), -float(row["val_loss"])))
        assert float(best["optim.lr"]) == values["optim.lr"] and best["chosen"] == "1"
    cells = sorted((folder / "cells").glob("*/config.yaml"))
    assert len(cells) == 4
    for path in cells:
        config = load(path)
        assert config.train.cache_features and config.model.freeze == ("features",)
        assert str(config.evaluate.every) == "100 %"
        assert config.optim.lr in (0.01, 0.1)
    assert len(list((here / "runs/features").glob("*.maps"))) == 6  # three splits for each of two seeds of the weights
    table = (folder / "table.md").read_text()
    assert "Tuned on validation" in table and table.count("Warning: optim.lr=") == 4
    html = write_report(folder).read_text()
    assert "Tuning" in html and "Validation accuracy of the final weights for every setting" in html
    before = {path: path.stat().st_mtime_ns for path in folder.glob("**/result.json")}
    again = zygote.train(here, f"resume={folder}", command="gcp.cli.ablate")
    assert again.code == 0 and before == {path: path.stat().st_mtime_ns for path in folder.glob("**/result.json")}


def test_runs_of_a_value_that_is_no_longer_the_best_are_set_aside(study, tmp_path):
    """Those of other variants stay, and whatever is run next begins anew."""
    kept = variants(study)
    first = {variant.label: {"optim.lr": 0.01} for variant in kept}
    chosen, cells = replace(study, chosen=first), cells_of(study, tmp_path, kept)
    lay_out(chosen, cells)
    assert tune.set_aside(chosen, tmp_path, first, kept) == []
    now = first | {kept[0].label: {"optim.lr": 0.1}}
    (line,) = tune.set_aside(chosen, tmp_path, now, kept)
    assert line.startswith(f"{kept[0].label}: lr=0.1 in the place of lr=0.01; 1 run moved to ")
    (moved,) = (tmp_path / "replaced").iterdir()
    assert load(moved / "config.yaml", written=True).optim.lr == 0.01
    assert [cell.folder.config.is_file() for cell in cells] == [False, True, True, True]
    lay_out(replace(study, chosen=now), cells)
    assert load(cells[0].folder.config, written=True).optim.lr == 0.1
