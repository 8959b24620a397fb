"""Runs of a model that whitens: trained on digits, killed and resumed, in two processes, evaluated."""

import signal

import pytest
import torch

import gcp
from gcp.layers import Whitening2d

WORDS = ["--config", "small.yaml", "model.norm={layers: all, group_size: 8}"]


@pytest.fixture(scope="module")
def place(tmp_path_factory, small_text):
    folder = tmp_path_factory.mktemp("whitening")
    (folder / "small.yaml").write_text(small_text)
    return folder


@pytest.fixture(scope="module")
def whole(place, zygote):
    """The run in one process, in one go."""
    answer = zygote.train(place, *WORDS, "run.name=whole")
    assert (answer.code, answer.err) == (0, "")
    assert "whitening in the place of all batch norms, group_size=8" in answer.out
    return place / "runs" / "whole"


def test_killed_and_resumed(place, zygote, whole, same_runs):
    killed = zygote.train(place, *WORDS, "run.name=killed", moment="gcp.engine.train:update:5:after")
    assert killed.code == -signal.SIGKILL
    assert zygote.train(place, "resume=killed").code == 0
    same_runs(place / "runs" / "killed", whole)


def test_two_processes_are_one(place, zygote, whole):
    # dropout draws for each process; a ridge, without which rounding decides in the directions that eight images lack
    words = [*WORDS, "model.dropout=0", "model.norm.eps=0.1"]
    assert zygote.train(place, *words, "run.name=one").code == 0
    codes, _, err = zygote.together(2, place, *words, "run.name=two")
    assert codes == [0, 0], err
    one, two = (torch.load(place / "runs" / name / "last.pt", weights_only=True)["model"] for name in ("one", "two"))
    first, second = (torch.cat([t.double().flatten() for t in state.values()]) for state in (one, two))
    assert (first - second).norm() < 5e-4 * first.norm()


def test_evaluated_and_used(place, zygote, whole):
    answer = zygote.train(place, "--checkpoint", str(whole), command="gcp.cli.evaluate")
    assert answer.code == 0, answer.err
    converted = zygote.train(place, str(whole / "best.pt"), "out.pt", command="gcp.cli.convert")
    assert converted.code == 0, converted.err
    one, two = gcp.load(whole), gcp.load(place / "out.pt")
    assert isinstance(one.model.features.body.bn1, Whitening2d)
    images = torch.randn(3, 1, 8, 8)
    assert torch.equal(one.model(images), two.model(images))
