"""Paths that cannot be one: one message, exit code 2."""

import shutil

import pytest

LONG = "a" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["--config", "small.yaml", f"run.name={LONG}"],
        ["--config", "small.yaml", f"run.dir={LONG}"],
        ["--config", LONG],
        ["--config", "small.yaml", "data.name=folder", f"data.root={LONG}"],
        ["--config", "small.yaml", f"model.pretrained={LONG}.pt"],
        [f"resume={LONG}"],
    ],
)
def test_a_name_that_is_too_long(train, refused, words):
    text = refused(train(*words))
    assert "too long" in text and len(text) < 1000


def test_a_checkpoint_whose_name_is_too_long(evaluate, refused):
    text = refused(evaluate("--checkpoint", LONG))
    assert "too long" in text and LONG not in text


def test_a_folder_in_the_place_of_a_file(small, train, refused, here):
    assert small("run.name=x", "train.epochs=1").code == 0
    (here / "runs/x/metrics.csv").unlink()
    (here / "runs/x/metrics.csv").mkdir()
    text = refused(train("resume=x", "train.epochs=2"))
    assert "directory" in text.lower() and "metrics.csv" in text


def test_a_run_folder_that_is_deleted_meanwhile(small, refused, here, monkeypatch):
    def deleted(*_):
        shutil.rmtree(here / "runs/x")
        return {}

    monkeypatch.setattr("gcp.runs.run.describe_environment", deleted)
    text = refused(small("run.name=x"))
    assert "runs/x" in text and "deleted" in text
