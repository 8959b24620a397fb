"""Checkpoints that were made, mixed up or edited by somebody: refused in one message, or scored with a remark."""

import json
import logging
import re
import shutil

import pytest
import torch

import gcp
from gcp.engine import checkpoint
from gcp.engine.distributed import ALONE
from gcp.errors import CheckpointError, GCPError
from gcp.runs.open_model import open_model


@pytest.fixture
def run(uninterrupted, here):
    shutil.copytree(uninterrupted, here / "runs" / "x")
    return here / "runs" / "x"


@pytest.fixture
def edited(run):
    """(change of the contents) -> the checkpoint with it."""

    def edit(change):
        path = run / "best.pt" if (run / "best.pt").is_file() else run / "last.pt"
        saved = checkpoint.load(path)
        change(saved)
        torch.save(saved, path)
        return path

    return edit


def weight(change):
    def edit(saved):
        for weights in (saved["model"], saved.get("ema") or {}):
            for key in weights:
                if key == "classifier.weight":
                    weights[key] = change(weights[key])

    return edit


def config(section, key, value):
    return lambda saved: saved["config"][section].__setitem__(key, value)


def averaged(saved):
    return "ema" if saved.get("ema") is not None else "model"


BROKEN = {
    "classes a number": (lambda saved: saved.update(classes=5), "its classes are '5', not a list of names"),
    "no class": (lambda saved: saved.update(classes=[]), "not a list of names"),
    "classes numbers": (lambda saved: saved.update(classes=[1, 2]), "not a list of names"),
    "weights none": (lambda saved: saved.update({averaged(saved): None, "model": None}), "holds no weights"),
    "weights a list": (lambda saved: saved.update({averaged(saved): [1]}), "holds no weights"),
    "a weight a list": (weight(lambda w: [1.0]), "classifier.weight is of type list"),
    "sparse": (weight(lambda w: w.to_sparse()), "classifier.weight is a tensor without plain values"),
    "meta": (weight(lambda w: w.to("meta")), "without plain values"),
    "int8": (weight(lambda w: w.to(torch.int8)), "classifier.weight is torch.int8; allowed are float32"),
    "complex": (weight(lambda w: w + 0j), "is torch.complex64"),
    "nan": (weight(lambda w: w * float("nan")), "classifier.weight holds inf or NaN"),
    "width": (config("head", "dim", 10**12), r"head\.dim=1000000000000, for which its .* weights are too few"),
    "channels": (config("data", "in_chans", 10**12), r"data\.in_chans=1000000000000, .* weights are too few"),
    "sketch": (config("head", "sketch", 10**12), r"head\.sketch=1000000000000, .* weights are too few"),
    "groups": (config("model", "norm", {"group_size": 10**12}), r"model\.norm=.*1000000000000.* weights are too few"),
    "hidden": (config("model", "hidden", [10**11]), r"model\.hidden=.* weights are too few"),
    "section": (lambda saved: saved["config"].update(head=7), "head"),
}


@pytest.mark.parametrize(("change", "message"), BROKEN.values(), ids=BROKEN)
def test_malformed_checkpoints_are_refused(change, message, edited):
    path = edited(change)
    with pytest.raises(GCPError, match=message):
        open_model(str(path), [], ALONE)
    with pytest.raises(GCPError, match=message):
        gcp.load(path, device="cpu")


@pytest.mark.parametrize("change", ["int8", "complex", "nan", "sparse"])
def test_weights_alone_are_checked_as_well(change, edited):
    path = edited(BROKEN[change][0])
    with pytest.raises(CheckpointError, match=r"classifier\.weight"):
        gcp.create_model("resnet8_cifar", num_classes=3, pretrained=path)


def test_deep_metadata_of_safetensors(here):
    from safetensors.torch import save_file

    model = gcp.create_model("resnet8_cifar", "average", 3)
    deep = "[" * 100_000 + "]" * 100_000
    save_file(model.state_dict(), here / "deep.safetensors", {"config": deep, "classes": json.dumps(["a", "b", "c"])})
    assert gcp.load(here / "deep.safetensors", device="cpu").classes == ("a", "b", "c")


def test_a_checkpoint_of_another_run_is_remarked(edited, caplog):
    edited(config("optim", "lr", 0.777))
    with caplog.at_level(logging.WARNING, logger="gcp"):
        open_model("x", [], ALONE)
    assert re.search(r"another run.*optim\.lr.* 0\.777", caplog.text)


def test_a_run_that_was_resumed_for_longer_is_not_another(edited, caplog):
    """Its best weights may be those from before."""
    edited(config("train", "epochs", 1))
    with caplog.at_level(logging.WARNING, logger="gcp"):
        open_model("x", [], ALONE)
    assert not caplog.records


def test_a_checkpoint_of_other_images_is_remarked(edited, caplog):
    path = edited(lambda saved: saved["images"].update(test="12 images, abc"))
    with caplog.at_level(logging.WARNING, logger="gcp"):
        open_model(str(path), [], ALONE).splits()
    assert re.search("other images.*test.* 12 images, abc", caplog.text)


def test_the_own_run_is_not_remarked(run, caplog):
    with caplog.at_level(logging.WARNING, logger="gcp"):
        open_model("x", [], ALONE).splits()
    assert not caplog.records


def test_advice_for_python_is_python(here):
    torch.save({"unknown.weight": torch.ones(3, 3)}, here / "odd.pt")
    with pytest.raises(CheckpointError, match=r"gcp\.create_model\(BACKBONE, HEAD"):
        gcp.load(here / "odd.pt")


def test_a_classifier_is_not_both_missing_and_left_over(tmp_path, caplog):
    """Of densenet the classifier has the name that ours has."""
    model = gcp.create_model("resnet8_cifar", "average", 3)
    state = {key.removeprefix("features.body."): value for key, value in model.state_dict().items()}
    torch.save({**state, "classifier.weight": torch.ones(7, 64), "classifier.bias": torch.ones(7)}, tmp_path / "f.pt")
    with caplog.at_level(logging.WARNING, logger="gcp"):
        gcp.create_model("resnet8_cifar", "average", 3, pretrained=tmp_path / "f.pt")
    (record,) = caplog.records
    assert re.search(r"new: classifier \(3 classes, 7 .*file\)$", record.getMessage())
