"""Frozen parts keep weights and batch statistics through training, and through copies."""

import copy

import pytest
import torch

from gcp.errors import UnknownNameError
from gcp.models import create_model, freeze


@pytest.fixture
def model():
    return create_model("resnet8_cifar", "average", 5, dim=8)


def step(model):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()
    model(torch.randn(4, 3, 16, 16)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("copied", [False, True])
def test_a_frozen_part_does_not_change_under_train(model, copied):
    freeze(model, ["features"])
    model = copy.deepcopy(model) if copied else model
    before = {key: value.clone() for key, value in model.state_dict().items()}
    step(model)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(before[key], value)}
    assert not any(key.startswith("features.") for key in changed)
    assert {"head.reduction.0.weight", "head.reduction.1.running_mean", "classifier.weight"} <= changed


@pytest.mark.parametrize("stage", ["features.body.layer1", "features.layer1"])
def test_modes(model, stage):
    freeze(model, [stage, "head"])
    assert model.train() is model
    assert not model.features.body.layer1[0].bn1.training and not model.head.training
    assert model.features.body.layer2[0].bn1.training and model.training
    assert not any(module.training for module in model.eval().modules())


def test_unknown_part_freezes_nothing(model):
    with pytest.raises(UnknownNameError, match=r"'feature'.*Did you mean 'features'"):
        freeze(model, ["head", "feature"])
    assert all(p.requires_grad for p in model.parameters())


def test_nothing_to_freeze(model):
    freeze(model, [])
    assert all(p.requires_grad for p in model.parameters())
