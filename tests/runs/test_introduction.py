"""What a run says before its first step: batch, learning rates, what is frozen."""

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
        ([], "learning rate 0.0794, not scaled, for 32 images a step"),
        (
            ["optim.lr_scaling=linear", "train.accumulate=2"],
            "learning rate 0.0794 x 64/256 (linear) = 0.01985 for 64 images a step (32 x 2 accumulated)",
        ),
        (
            ["optim.lr_scaling=sqrt", "optim.lr_batch=128"],
            "learning rate 0.0794 x sqrt(32/128) (sqrt) = 0.0397 for 32 images a step",
        ),
    ],
)
def test_learning_rate(words, line):
    assert learning_rate_text(from_dict(SMALL, words)) == line.replace(" (sqrt)", "")


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
    assert lines["step"] == ["6 steps, learning rate 0.0794, not scaled, for 32 images a step"]


def test_rates_and_decays_where_they_differ(told):
    words = ["optim.lr=0.1", "optim.head_lr_factor=20", "optim.classifier_weight_decay=0"]
    assert told(*words)["step"][1] == "features 0.1, decay 0.0001; head 2, decay 0.0001; classifier 2, decay 0"


def test_frozen_parts(told):
    """Head of 64 x 4 weights and 2 x 4 of the batch norm, classifier of 10 x 10 weights and 10 biases."""
    assert told("model.freeze=[features]")["trained"] == ["374 parameters; frozen: features"]
