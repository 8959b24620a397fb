"""What a run says before its first step: batch, learning rates, what is frozen."""

import re

import pytest
import torch

from gcp.config import from_dict
from gcp.runs import build
from gcp.runs.build import build_timing, learning_rate_text
from gcp.runs.classifier import introduction

SMALL = {
    "run": {"device": "cpu"},
    "data": {"image_size": 8, "in_chans": 1, "per_class": 4},
    "model": {"backbone": "resnet8_cifar"},
    "head": {"dim": 4},
    "optim": {"lr": 0.0794},
    "train": {"batch_size": 32, "epochs": 3},
}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], r"0\.0794, not scaled.* 32 images"),
        (
            ["optim.lr_scaling=linear", "train.accumulate=2"],
            r"0\.0794 x 64/256 .*= 0\.01985 .*64 images.*32 x 2",
        ),
        (
            ["optim.lr_scaling=sqrt", "optim.lr_batch=128"],
            r"0\.0794 x sqrt\(32/128\) = 0\.0397 .*32 images",
        ),
    ],
)
def test_learning_rate(words, line):
    assert re.search(line, learning_rate_text(from_dict(SMALL, words)))


@pytest.fixture
def told(tmp_path):
    """The lines of a configuration by their first word; those without belong to the one before."""

    def told(*words):
        config, cpu = from_dict(SMALL, words), torch.device("cpu")
        splits = build.build_splits(config)
        timing = build_timing(config, build.build_train_loader(config, splits, cpu))
        state = build.build_state(config, build.build_model(config, 10, cpu), cpu)
        lines: dict[str, list[str]] = {}
        for line in introduction(config, tmp_path, splits, state, timing).splitlines():
            lines.setdefault(line[:11].strip() or list(lines)[-1], []).append(line[11:])
        return lines

    return told


def test_all_alike(told):
    lines = told()
    assert list(lines) == ["run", "data", "model", "step"]
    (step,) = lines["step"]
    assert re.search(r"^6 steps, .*0\.0794, not scaled.* 32 images", step)


def test_rates_and_decays_where_they_differ(told):
    words = ["optim.lr=0.1", "optim.head_lr_factor=20", "optim.classifier_weight_decay=0"]
    parts = r"^features 0\.1,.* 0\.0001; head 2,.* 0\.0001; classifier 2,.* 0$"
    assert re.search(parts, told(*words)["step"][1])


def test_frozen_parts(told):
    """Head of 64 x 4 weights and 2 x 4 of the batch norm, classifier of 10 x 10 weights and 10 biases."""
    assert told("model.freeze=[features]")["trained"] == ["374 parameters; frozen: features"]
