"""The end of a run: which weights are scored, and the table."""

import re

import torch
from torch import nn

from gcp.engine import checkpoint
from gcp.engine.folder import RunFolder
from gcp.engine.state import Progress, TrainingState
from gcp.runs.result import format_result, score_run

BEST = {"top1": 90.0, "top5": None, "macro": 90.0, "loss": 0.3, "count": 4, "step": 6, "epoch": 2}


def state(step):
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 50.0)
    history = [{"seconds": 1.5, "val_loss": 0.5, "val_accuracy": 80.0}, {"seconds": 2.0, "val_loss": 0.4}]
    progress = Progress(step=step, epoch=3, history=history)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return TrainingState(model, optimizer, torch.amp.GradScaler("cpu", enabled=False), None, progress)


def scorer(state):
    """Scores whose top-1 accuracy is the weight."""
    return lambda: {"loss": 1.0, "top1": state.model.weight.item(), "top5": None, "macro": 1.0, "count": 4}


def test_final_and_best_are_scored_with_their_own_weights(tmp_path):
    run, folder = state(9), RunFolder(tmp_path)
    checkpoint.save(folder.best, {"model": {"weight": torch.full((1, 1), 70.0)}, "scores": BEST})
    result = score_run(run, folder, "As told.", scorer(run))
    assert result["test"]["final"] == {
        "loss": 1,
        "top1": 50,
        "top5": None,
        "macro": 1,
        "count": 4,
        "step": 9,
        "epoch": 3,
    }
    assert result["test"]["best"] == {
        "loss": 1,
        "top1": 70,
        "top5": None,
        "macro": 1,
        "count": 4,
        "step": 6,
        "epoch": 2,
    }
    assert result["validation"] == {"final": {"loss": 0.4, "top1": None}, "best": BEST}
    assert re.search(r"validation.*As told\.", result["selection"]) and result["seconds"] == 3.5


def test_the_same_weights_are_scored_once(tmp_path):
    run, folder, calls = state(6), RunFolder(tmp_path), []
    checkpoint.save(folder.best, {"model": {"weight": torch.full((1, 1), 50.0)}, "scores": BEST})

    def score():
        calls.append(1)
        return scorer(run)()

    result = score_run(run, folder, "", score)
    assert len(calls) == 1 and result["test"]["best"] == result["test"]["final"]


def test_best_is_missing(tmp_path, caplog):
    run = state(9)
    result = score_run(run, RunFolder(tmp_path), "", scorer(run))
    assert list(result["test"]) == ["final"] and "best.pt is lost" in result["selection"]
    assert re.search(r"no checkpoint .*best\.pt", caplog.text)


def test_table():
    scores = {"loss": 0.25, "top1": 97.5, "top5": 100.0, "macro": 97.25, "count": 360, "step": 9, "epoch": 3}
    text = format_result({"test": {"final": scores, "best": scores | {"epoch": 12}}})
    rows = [
        r"test.* top-1 % +top-5 % +macro % +loss +epoch$",
        r"final.* 97\.50 +100\.00 +97\.25 +0\.2500 +3$",
        r"best.* 97\.50 +100\.00 +97\.25 +0\.2500 +12$",
    ]
    lines = text.splitlines()
    assert len(lines) == len(rows) and all(map(re.search, rows, lines)), text
    assert "top-5" not in format_result({"test": {"final": scores | {"top5": None}, "best": scores}})


def test_table_of_a_stage():
    scores = {"loss": 0.25, "top1": 97.5, "top5": None, "macro": 97.25, "count": 360, "step": 9, "epoch": 3}
    first, *_, last = format_result({"test": {"final": scores, "best": scores}}, stage=2).splitlines()
    assert first.startswith("test split, stage 2 ") and len(first) == len(last)


def test_the_model_is_adapted_before_the_best_weights_are_loaded(tmp_path):
    run, folder, seen = state(9), RunFolder(tmp_path), []
    weights = {"model": {"weight": torch.full((1, 1), 70.0)}, "scores": BEST, "switched": None}
    checkpoint.save(folder.best, weights)
    score_run(run, folder, "", scorer(run), lambda saved: seen.append((saved["switched"], run.model.weight.item())))
    assert seen == [(None, 50)]
