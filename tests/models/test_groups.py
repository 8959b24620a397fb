"""Parameter groups: every trainable parameter once, with the rate and decay of its part."""

import pytest
import torch

from gcp.errors import OptionError
from gcp.models import create_model, freeze, parameter_groups


@pytest.fixture
def model():
    return create_model("resnet8_cifar", "average", 5, dim=8)


def test_every_parameter_exactly_once(model):
    groups = parameter_groups(model, 0.1, 1e-4)
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in model.parameters())
    assert [group["name"] for group in groups] == ["features", "head", "classifier"]
    torch.optim.SGD(groups, lr=1.0)


def test_rates_and_decays(model):
    groups = parameter_groups(model, 0.1, 1e-4, features_lr_factor=0.5, head_lr_factor=20, head_weight_decay=0.0)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.05, 1e-4), (2.0, 0.0), (2.0, 0.0)]
    groups = parameter_groups(model, 0.1, 1e-4, head_lr_factor=20, classifier_lr_factor=1, classifier_weight_decay=1e-3)
    assert [(g["lr"], g["weight_decay"]) for g in groups] == [(0.1, 1e-4), (2.0, 1e-4), (0.1, 1e-3)]


def test_parameters_without_decay_have_a_group_of_their_own(model):
    model.classifier.bias.no_weight_decay = True
    groups = {group["name"]: group for group in parameter_groups(model, 0.1, 1e-4, classifier_lr_factor=3)}
    assert groups["classifier.no_decay"]["weight_decay"] == 0.0
    assert groups["classifier.no_decay"]["lr"] == pytest.approx(0.3)
    assert [id(p) for p in groups["classifier.no_decay"]["params"]] == [id(model.classifier.bias)]
    assert [id(p) for p in groups["classifier"]["params"]] == [id(model.classifier.weight)]


def test_frozen_parts_have_no_group(model):
    freeze(model, ["features"])
    assert [group["name"] for group in parameter_groups(model, 0.1, 1e-4)] == ["head", "classifier"]
    freeze(model, ["head", "classifier"])
    with pytest.raises(OptionError, match="every parameter is frozen"):
        parameter_groups(model, 0.1, 1e-4)
