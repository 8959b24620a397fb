"""Runs with spectral norms, an orthogonal reduction, NOG and OLR: said, killed, continued, evaluated."""

import re
import signal

import pytest

RUNS = {
    "orthogonal": (
        ["head.reduction=orthogonal", "model.classifier_norm=bound"],
        ["reduction  orthonormal rows", "classifier spectral norm 1 (bound)"],
    ),
    "power": (["head.spectral_norm=power", "model.classifier_norm=power"], ["reduction  spectral norm 1 (power)"]),
    "nog": (
        ["optim.nog=true", "optim.olr=exact", "optim.clip=1"],
        ["reduction  nearest-orthogonal gradient, optimal learning rate (exact)"],
    ),
}


@pytest.mark.parametrize(("words", "lines"), RUNS.values(), ids=RUNS)
def test_killed_and_continued_to_the_same_bits(words, lines, zygote, here, same_runs):
    words = ["--config", "small.yaml", "train.epochs=2", *words]
    whole = zygote.train(here, *words, "run.name=whole")
    assert (whole.code, whole.err) == (0, "")
    assert set(lines) <= set(whole.out.splitlines())
    moment = "gcp.engine.train:update:4:after"
    assert zygote.train(here, *words, "run.name=x", moment=moment).code == -signal.SIGKILL
    assert (here / "runs/x/last.pt").is_file()
    assert zygote.train(here, "resume=x").code == 0
    same_runs(here / "runs/x", here / "runs/whole")


def test_evaluated_as_trained(small, evaluate, here):
    words = ("head.reduction=orthogonal", "model.classifier_norm=power", "train.epochs=1", "run.name=x")
    assert small(*words).code == 0
    answer = evaluate("--checkpoint", "runs/x", "split=val")
    assert answer.code == 0, answer.err


def test_nothing_to_act_on_is_one_clear_fault(small, refused):
    text = refused(small("optim.nog=true", "head.dim=null"))
    assert re.search(r"optim\.nog.*true.*false.*head\.dim: null", text)
