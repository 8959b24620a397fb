"""Files of a run folder that somebody has edited, lost or damaged."""

import json

import pytest
import torch


@pytest.fixture
def stopped(small, here):
    """A run folder whose run has one of two epochs."""
    assert small("run.name=x", "train.epochs=1", "schedule.name=constant", "schedule.warmup=0").code == 0
    return here / "runs" / "x"


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ("lr: 0.05", "lr: 0.5", "optim.lr: got 0.5; the run has 0.05"),
        ("name: svd_pade", "name: svd_exact", "head.name: got 'svd_exact'; the run has 'svd_pade'"),
        ("batch_size: 8", "batch_size: 4", "train.batch_size: got 4; the run has 8"),
        ("mixup: 0.2", "mixup: 0.0", "train.mixup: got 0.0; the run has 0.2"),
        ("momentum: 0.9", "momentum: 0.5", "optim.momentum: got 0.5; the run has 0.9"),
        ("image_size: 8", "image_size: 16", "data.image_size: got 16; the run has 8"),
    ],
)
def test_an_edited_configuration_is_refused(before, after, key, stopped, train, refused):
    text = (stopped / "config.yaml").read_text()
    assert text.count(before + "\n") == 1
    (stopped / "config.yaml").write_text(text.replace(before + "\n", after + "\n"))
    message = refused(train("resume=x", "train.epochs=2"))
    assert key in message and "config.yaml" in message and "put it back" in message
    (stopped / "config.yaml").write_text(text)
    assert train("resume=x", "train.epochs=2").code == 0


def test_what_may_change_may_be_edited(stopped, train):
    text = (stopped / "config.yaml").read_text()
    (stopped / "config.yaml").write_text(text.replace("epochs: 1\n", "epochs: 2\n").replace("keep: 3", "keep: 1"))
    assert train("resume=x").code == 0
    assert json.loads((stopped / "result.json").read_text())["test"]["final"]["epoch"] == 2


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"PK\3\4 torn")])
def test_without_best_weights_the_final_ones_are_scored(damage, stopped, train, caplog):
    damage(stopped / "best.pt")
    (stopped / "result.json").unlink()
    answer = train("resume=x")
    assert answer.code == 0 and "final weights" in answer.out and "best on validation" not in answer.out
    assert "lost" in caplog.text
    assert list(json.loads((stopped / "result.json").read_text())["test"]) == ["final"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"test": {}}', '{"test": {"final": {"step": "x"}}}', "\udcff"])
def test_a_damaged_result_is_made_again(text, stopped, train):
    whole = json.loads((stopped / "result.json").read_text())
    (stopped / "result.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    weights = torch.load(stopped / "last.pt", weights_only=True)["model"]
    assert train("resume=x").code == 0
    again = json.loads((stopped / "result.json").read_text())
    assert again["test"] == whole["test"]
    same = torch.load(stopped / "last.pt", weights_only=True)["model"]
    assert all(torch.equal(weights[key], same[key]) for key in weights)
