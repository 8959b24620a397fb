import pytest
import torch
from torch import nn

from gcp.engine.optimizer import create_optimizer, learning_rates, set_learning_rates
from gcp.errors import OptionError, UnknownNameError


def parameter(size=3):
    return nn.Parameter(torch.linspace(-1, 1, size, dtype=torch.float64))


def descend(optimizer, p, steps=4):
    for _ in range(steps):
        optimizer.zero_grad()
        (p**2).sum().backward()
        optimizer.step()
    return p.detach().clone()


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_that_of_torch_and_nesterov_only_when_asked(nesterov):
    ours, theirs = parameter(), parameter()
    optimizer = create_optimizer([{"params": [ours]}], "sgd", 0.1, 0.8, 0.01, nesterov)
    reference = torch.optim.SGD([theirs], 0.1, momentum=0.8, weight_decay=0.01, nesterov=nesterov)
    assert type(optimizer) is torch.optim.SGD
    assert optimizer.param_groups[0]["nesterov"] is nesterov
    assert torch.equal(descend(optimizer, ours), descend(reference, theirs))


def test_plain_momentum_against_its_formula():
    p = parameter()
    w, velocity = p.detach().clone(), torch.zeros_like(p)
    for _ in range(4):
        velocity = 0.9 * velocity + 2 * w + 0.1 * w
        w = w - 0.05 * velocity
    got = descend(create_optimizer([{"params": [p]}], "momentum", 0.05, 0.9, 0.1), p)
    assert torch.allclose(got, w, rtol=1e-13, atol=0)


def test_a_name_that_says_nesterov_keeps_it():
    optimizer = create_optimizer([{"params": [parameter()]}], "nesterov", 0.1)
    assert optimizer.param_groups[0]["nesterov"] is True


def test_adamw_is_that_of_torch():
    ours, theirs = parameter(), parameter()
    optimizer = create_optimizer([{"params": [ours]}], "adamw", 0.01, weight_decay=0.1)
    assert torch.equal(descend(optimizer, ours), descend(torch.optim.AdamW([theirs], 0.01, weight_decay=0.1), theirs))


def test_groups_keep_their_rate_decay_and_name():
    groups = [
        {"name": "features", "params": [parameter()], "lr": 0.01, "weight_decay": 0.5},
        {"name": "head", "params": [parameter()], "lr": 0.1},
        {"name": "head.no_decay", "params": [parameter()], "weight_decay": 0.0},
    ]
    optimizer = create_optimizer(groups, "sgd", 0.2, weight_decay=0.3)
    got = [[group[key] for key in ("name", "lr", "base_lr", "weight_decay")] for group in optimizer.param_groups]
    assert got == [["features", 0.01, 0.01, 0.5], ["head", 0.1, 0.1, 0.3], ["head.no_decay", 0.2, 0.2, 0.0]]
    assert "base_lr" not in groups[0]  # the caller's dictionaries are left alone


def test_rates_follow_the_factor_from_the_base_and_are_told_per_part():
    groups = [
        {"name": "features", "params": [parameter()], "lr": 0.01},
        {"name": "head", "params": [parameter()], "lr": 0.1},
        {"name": "head.no_decay", "params": [parameter()], "lr": 0.1},
        {"params": [parameter()]},
    ]
    optimizer = create_optimizer(groups, "sgd", 1.0)
    for factor in (0.5, 0.5, 0.25):  # not compounded
        set_learning_rates(optimizer, factor)
    assert learning_rates(optimizer) == {"features": 0.0025, "head": 0.025, "group3": 0.25}
    set_learning_rates(optimizer, 1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.1, 0.1, 1.0]


def test_parameters_may_come_as_a_generator():
    model = nn.Linear(3, 2)
    optimizer = create_optimizer([{"params": model.parameters()}], "sgd", 0.1)
    assert [p.shape for p in optimizer.param_groups[0]["params"]] == [(2, 3), (2,)]


def test_refusals():
    groups = [{"params": [parameter()]}]
    with pytest.raises(UnknownNameError, match=r"unknown optimizer 'adamv'\. Did you mean 'adam"):
        create_optimizer(groups, "adamv")
    with pytest.raises(OptionError, match=r"'adamw' .*Set optim\.nesterov=false"):
        create_optimizer(groups, "adamw", nesterov=True)
    with pytest.raises(OptionError, match=r"nothing to train.*model\.freeze"):
        create_optimizer([{"params": []}], "sgd")
    with pytest.raises(OptionError, match="'adahessian' needs second derivatives"):
        create_optimizer(groups, "adahessian")


def test_arguments_of_the_optimizer():
    groups = [{"params": [torch.nn.Parameter(torch.ones(2))], "name": "head"}]
    made = create_optimizer(groups, "adamw", betas=[0.8, 0.9], eps=1e-6, options={"amsgrad": True})
    assert made.defaults["betas"] == (0.8, 0.9) and made.defaults["eps"] == 1e-6 and made.defaults["amsgrad"]
    with pytest.raises(OptionError, match="amsgrad"):
        create_optimizer(groups, "adamw", options={"amsgrat": True})
    with pytest.raises(OptionError, match="betas"):
        create_optimizer(groups, "sgd", betas=[0.9, 0.99])
