"""What follows the model: momentum and moments, averages, groups, flags."""

import copy

import pytest
import torch
from torch import nn

from gcp.engine.state import EMA
from gcp.errors import OptionError
from gcp.evolve import grow, shrink
from gcp.models import freeze, parameter_groups

WIDTHS = {"features.body.layer2.0.conv1": (27, 36), "features.body.layer2.0.conv2": (26, 35), "head.reduction": (4, 8)}
OPTIMIZERS = {
    "sgd": lambda groups: torch.optim.SGD(groups, 0.01, momentum=0.9),
    "adam": lambda groups: torch.optim.Adam(groups, 1e-3, amsgrad=True),
}


def steps(model, optimizer, images, count=2):
    for _ in range(count):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), torch.arange(len(images)) % 5).backward()
        optimizer.step()


def started(make, images, name):
    model = make("covariance").train()
    groups = parameter_groups(model, 0.01, 1e-4, head_lr_factor=2)
    optimizer = OPTIMIZERS[name](groups)
    for group in optimizer.param_groups:
        group["base_lr"] = group["lr"]
    steps(model, optimizer, images)
    return model, optimizer


def surviving(kept, before):
    """Channels, and the places of the classifier's columns in the triangles of old and new."""
    new = {channel: place for place, channel in enumerate(kept)}
    pairs = [(i, j) for i in range(before) for j in range(i, before)]
    place = {pair: number for number, pair in enumerate(pairs)}
    kept_pairs = [(i, j) for i in kept for j in kept if i <= j]
    return torch.tensor([place[pair] for pair in kept_pairs]), new


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_of_what_survives_is_bit_identical(make, images, name):
    model, optimizer = started(make, images, name)
    old = {key: copy.deepcopy(optimizer.state[p]) for key, p in model.named_parameters()}
    kept = {}
    for dimension, (width, _) in WIDTHS.items():
        kept[dimension] = list(shrink(model, dimension, width, images, optimizer=optimizer).kept)
    inner, stage, head = kept.values()
    columns, _ = surviving(head, 6)
    expected = {
        "features.body.layer2.0.conv1.weight": lambda t: t[inner],
        "features.body.layer2.0.bn1.weight": lambda t: t[inner],
        "features.body.layer2.0.conv2.weight": lambda t: t[stage][:, inner],
        "features.body.layer2.0.downsample.0.weight": lambda t: t[stage],
        "features.body.layer3.0.conv1.weight": lambda t: t[:, stage],
        "head.reduction.0.weight": lambda t: t[head],
        "head.reduction.1.bias": lambda t: t[head],
        "classifier.weight": lambda t: t[:, columns],
    }
    for key, parameter in model.named_parameters():
        state = optimizer.state[parameter]
        assert set(state) == set(old[key])
        touched = any(
            part in key for part in ("layer2", "layer3.0.conv1", "layer3.0.down", "reduction", "classifier.w")
        )
        for field, value in state.items():
            before = old[key][field]
            if isinstance(value, torch.Tensor) and value.ndim:
                assert value.shape == parameter.shape
                if key in expected or not touched:
                    assert torch.equal(value, expected.get(key, lambda t: t)(before)), (key, field)
            else:
                assert value == before
    steps(model, optimizer, images)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_new_state_is_zero(make, images, name):
    model, optimizer = started(make, images, name)
    old = {key: copy.deepcopy(optimizer.state[p]) for key, p in model.named_parameters()}
    grow(model, {dimension: width for dimension, (_, width) in WIDTHS.items()}, optimizer=optimizer)
    wide = model.features.body.layer2[0]
    for field, value in optimizer.state[wide.conv2.weight].items():
        if isinstance(value, torch.Tensor) and value.ndim:
            before = old["features.body.layer2.0.conv2.weight"][field]
            assert torch.equal(value[:32, :32], before) and value.shape == (35, 36, 3, 3)
            assert not value[32:].any() and not value[:, 32:].any()
    steps(model, optimizer, images)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_groups_keep_their_order_and_settings(make, images):
    model, optimizer = started(make, images, "sgd")
    settings = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    names = {id(p): key for key, p in model.named_parameters()}
    order = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    grow(model, "head.reduction", 8, optimizer=optimizer)
    shrink(model, "features.body.conv1", 12, images, optimizer=optimizer)
    names = {id(p): key for key, p in model.named_parameters()}
    assert [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups] == order
    assert [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups] == settings
    assert {group["name"].split(".")[0] for group in optimizer.param_groups} == {"features", "head", "classifier"}
    saved = optimizer.state_dict()
    again = torch.optim.SGD(parameter_groups(model, 0.01, 1e-4, head_lr_factor=2), 0.01, momentum=0.9)
    again.load_state_dict(saved)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_flags_of_parameters_stay(make, images):
    model = make("covariance").train()
    freeze(model, ["features.layer2"])
    model.head.reduction[1].weight.no_weight_decay = True
    frozen = {key for key, parameter in model.named_parameters() if not parameter.requires_grad}
    old = model.head.reduction[1].weight
    grow(model, {"features.body.layer2.0.conv1": 40, "head.reduction": 8})
    assert {key for key, parameter in model.named_parameters() if not parameter.requires_grad} == frozen
    new = model.head.reduction[1].weight
    assert new is not old and new.no_weight_decay and isinstance(new, nn.Parameter)


def test_memory_format_and_dtype_stay(make, images):
    model = make("covariance").double().to(memory_format=torch.channels_last)
    shrink(model, "features.body.layer2.0.conv1", 20, images.double())
    grow(model, "features.body.layer2.0.conv1", 24)
    weight = model.features.body.layer2[0].conv2.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and weight.dtype == torch.float64


def test_an_average_loses_and_gains_the_same_channels(make, images):
    model, optimizer = started(make, images, "sgd")
    ema = EMA(model, 0.5)
    steps(model, optimizer, images)
    old = {key: value.clone() for key, value in ema.module.state_dict().items()}
    outputs = ema.module(images)
    grow(model, "features.body.layer2.0.conv1", 36, ema=ema)
    assert torch.allclose(ema.module(images), outputs, atol=1e-6)
    wide = ema.module.features.body.layer2[0].conv1.weight
    assert torch.equal(wide[:32], old["features.body.layer2.0.conv1.weight"])
    assert torch.equal(wide[32:], model.features.body.layer2[0].conv1.weight[32:])
    kept = shrink(model, "features.body.layer2.0.conv1", 34, images, ema=ema).kept
    assert torch.equal(ema.module.features.body.layer2[0].conv1.weight, wide[list(kept)])
    assert not any(parameter.requires_grad for parameter in ema.module.parameters())
    assert ((ema.module(images) - outputs).norm() / outputs.norm()) < 0.2
    ema.update(model, 3)
    assert ema.module.arguments["widths"] == model.arguments["widths"]


def test_an_optimizer_that_cannot_follow_is_refused(make, images):
    model = make("covariance").train()
    optimizer = torch.optim.Adafactor(model.parameters())
    steps(model, optimizer, images, 1)
    state = copy.deepcopy(model.state_dict())
    for width in (4, 8):
        with pytest.raises(OptionError, match=r"Adafactor .*'row_var' .*cannot follow"):
            (grow if width > 6 else shrink)(model, "head.reduction", width, images=images, optimizer=optimizer)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_an_average_has_to_be_a_module(make):
    with pytest.raises(OptionError, match=r"ema .*float; allowed: a module.*\.module"):
        grow(make("covariance"), "head.reduction", 8, ema=0.999)
