import pytest
import torch
from torch import nn

from gcp.engine.state import EMA
from gcp.errors import OptionError


def change(model):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p))


def test_average_against_its_formula():
    model = nn.Linear(3, 2).double()
    ema, expected = EMA(model, 0.5), model.weight.detach().clone()
    for step in range(20):
        change(model)
        ema.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))  # ramp up to step 8, then 0.5
        expected = decay * expected + (1 - decay) * model.weight.detach()
    assert torch.allclose(ema.module.weight, expected, rtol=1e-13, atol=1e-15)


def test_buffers_are_copied_not_averaged():
    model = nn.BatchNorm1d(2)
    ema = EMA(model, 0.999)
    model(torch.randn(8, 2) + 5)
    ema.update(model, 0)
    assert torch.equal(ema.module.running_mean, model.running_mean)
    assert ema.module.num_batches_tracked == 1


def test_the_copy_is_frozen_in_eval_mode_and_apart_from_the_model():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train()
    ema = EMA(model, 0.9)
    before = ema.module[0].weight.clone()
    change(model)
    assert torch.equal(ema.module[0].weight, before)
    assert not ema.module.training and not ema.module[1].training and model.training
    assert not any(p.requires_grad for p in ema.module.parameters())
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("decay", [0, 1, 1.5, -0.1, float("nan")])
def test_decay_out_of_range(decay):
    with pytest.raises(OptionError, match="ema: a decay between 0 and 1 is needed, got"):
        EMA(nn.Linear(1, 1), decay)
