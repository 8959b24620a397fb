"""Tables of a study: what they show while runs are open, chance, test images, text that is no markup."""

import csv
import json

import numpy as np
import pytest

from gcp.studies import pool
from gcp.studies.cells import IMAGES, cells_of, check, config_of, read
from gcp.studies.grid import Study, variants
from gcp.studies.report import write_report
from gcp.studies.report.answer import answer
from gcp.studies.report.results import open_study
from gcp.studies.run import StudyProgress, _reductions
from gcp.studies.tables import write_tables

N = 200  # test images


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of two heads and three seeds without runs, and a function that finishes the run of a cell."""
    monkeypatch.chdir(tmp_path)
    recipe = "data: {name: digits}\nmodel: {backbone: resnet8_cifar}\nhead: {dim: 8}\n"
    (tmp_path / "small.yaml").write_text(recipe)
    made = Study("x", "small.yaml", {"head.name": ["svd_pade", "average"]}, seeds=[0, 1, 2])
    cells = cells_of(made, tmp_path)

    def finish(cell, right, validation, images=True):
        cell.folder.path.mkdir(parents=True, exist_ok=True)
        score = {"top1": 100 * float(np.mean(right)), "loss": 0.1, "epoch": 3}
        result = {"test": {"final": score, "best": score}, "validation": {"best": {"top1": validation}}}
        result["selection"] = "best is chosen on the validation split. validation: the folder val/ (50)"
        cell.folder.result.write_text(json.dumps(result))
        if images:
            np.savez(cell.folder.path / IMAGES, right=right, chance=10.0)

    return made, cells, finish


def right(wrong):
    found = np.ones(N, bool)
    found[list(wrong)] = False
    return found


def rows(path):
    with open(path, newline="") as file:
        return {row["variant"]: row for row in csv.DictReader(file)}


def test_test_scores_are_hidden_while_runs_are_open(study, tmp_path):
    """And both the table and the line of progress rank by validation, by which the worse one on the test split wins."""
    made, cells, finish = study
    for cell in cells[:-1]:
        first = cell.variant.label == "svd_pade"
        finish(cell, right(range(2 if first else 40)), 80.0 if first else 91.25)
    write_tables(tmp_path, made, cells)
    text = (tmp_path / "table.md").read_text()
    assert (
        "80.00" in text
        and "99.00" not in text
        and text.index("| average") < text.index("| svd\\_pade".replace("\\", ""))
    )
    line = StudyProgress(cells, 1, lambda: write_tables(tmp_path, made, cells)).line()
    assert line.endswith("best on validation average 91.25")
    finish(cells[-1], right(range(40)), 91.25)
    write_tables(tmp_path, made, cells)
    assert "99.00" in (tmp_path / "table.md").read_text()


def test_a_difference_that_other_images_would_not_show(study, tmp_path):
    """Every seed has the same seven images wrong that the reference has right, and three the other way: over seeds
    alone two points are certain; over images (7 against 3) they are not.
    """
    made, cells, finish = study
    for cell in cells:
        own = range(3) if cell.variant.label == "svd_pade" else range(10, 17)
        finish(cell, right([*own, 50 + cell.seed]), 90.0, images=False)
    finish(cells[0], right([0, 1, 2, 60, 61]), 90.0, images=False)
    write_tables(tmp_path, made, cells)
    alone = rows(tmp_path / "table.csv")["average"]
    assert float(alone["p_holm"]) < 0.05 and alone["interval"] == "seeds" and "worse" in alone["verdict"]
    write_report(tmp_path)
    assert "are over seeds alone" in (tmp_path / "report.md").read_text()
    for cell in cells:
        own = range(3) if cell.variant.label == "svd_pade" else range(10, 17)
        finish(cell, right([*own, 50 + cell.seed]), 90.0)
    finish(cells[0], right([0, 1, 2, 60, 61]), 90.0)
    write_tables(tmp_path, made, cells)
    both = rows(tmp_path / "table.csv")["average"]
    assert (
        float(both["p_holm"]) > 0.05 and both["interval"] == "seeds and images" and "cannot be told" in both["verdict"]
    )
    assert both["difference"] == alone["difference"] and float(both["low"]) < 0 < float(both["high"])
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "the sampling of the 200 test images" in text and "Intervals are over seeds and images" in text


@pytest.mark.parametrize("learnt", [("svd_pade",), ()])
def test_chance_is_said(study, tmp_path, learnt):
    made, cells, finish = study
    generator = np.random.default_rng(0)
    for cell in cells:
        finish(cell, generator.random(N) < (0.9 if cell.variant.label in learnt else 0.1), 10.0)
    write_tables(tmp_path, made, cells)
    assert (tmp_path / "table.md").read_text().count("it has not learnt") == 2 - len(learnt)
    first = answer(open_study(tmp_path))[0]
    assert first.startswith("Not above chance" if learnt else "No variant is above chance, the 10.00 %")


def test_how_validation_was_held_out_is_what_the_runs_say(study, tmp_path):
    made, cells, finish = study
    for cell in cells:
        cell.folder.path.mkdir(parents=True, exist_ok=True)
        (cell.folder.path / "config.yaml").write_text("data: {name: folders, val_fraction: 0.1}\n")
        finish(cell, right([cell.seed]), 90.0)
    write_tables(tmp_path, made, cells)
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "the folder val/ (50)" in text and "0.1 of the training images" not in text


def test_text_is_no_markup(study, tmp_path):
    made, cells, _ = study
    evil = Study(
        **{**made.plain(), "title": "<img src=x onerror=alert(1)>", "notes": ["<b>a</b>"], "command": "a `b` <i>"}
    )
    (cells[0].folder.path).mkdir(parents=True)
    failure = {"message": "=HYPERLINK(1) <script>", "nonfinite": False, "again": False}
    (cells[0].folder.path / "failure.json").write_text(json.dumps(failure))
    write_tables(tmp_path, evil, cells)
    text = (tmp_path / "table.md").read_text()
    assert "<img" not in text and "<b>" not in text and "<script>" not in text and "`` a `b` <i> ``" in text
    with open(tmp_path / "cells.csv", newline="") as file:
        assert next(csv.DictReader(file))["message"].startswith("'=HYPERLINK")


@pytest.mark.parametrize("damaged", [b"", b"PK\x03\x04", None])
def test_images_that_cannot_be_read_are_none(study, damaged):
    _, cells, finish = study
    finish(cells[0], right([1]), 90.0)
    path = cells[0].folder.path / IMAGES
    if damaged is None:
        np.savez(path, right=np.zeros(0, bool), chance=10.0)
    else:
        path.write_bytes(damaged)
    assert read(cells[0]).images is None


def test_average_pools_all_channels_unless_asked(study):
    """head.dim is of the covariance heads; a grid that varies it means it for all."""
    made, _, _ = study
    pade, average = check(made)
    assert (config_of(made, pade).head.dim, config_of(made, average).head.dim) == (8, None)
    (note,) = _reductions(made, [pade, average])
    assert "average" in note and "head.dim=8" in note and "--reduce-average" in note
    asked = Study(**made.plain() | {"reduce_average": True})
    assert config_of(asked, average).head.dim == 8 and _reductions(asked, [pade, average]) == []
    started = Study(**made.plain() | {"overrides": [*made.overrides, "head.reduction_init=pca"]})
    assert [config_of(started, each).head.reduction_init for each in (pade, average)] == ["pca", "random"]
    grid = Study("x", "small.yaml", made.grid | {"head.dim": [4, 16]})
    assert {config_of(grid, each).head.dim for each in variants(grid)} == {4, 16}


@pytest.mark.parametrize(("code", "state"), [(1, "failed"), (-9, "failed"), (-15, "pending"), (130, "pending")])
def test_a_process_that_could_not_tell_why_it_ended(study, code, state):
    """A failure by no fault of its own, which the next command runs again; a run that was stopped is none."""
    _, cells, _ = study
    cells[0].folder.path.mkdir(parents=True)
    pool._note(cells[0], code)
    found = read(cells[0])
    assert (found.state, found.again) == (state, state == "failed")
