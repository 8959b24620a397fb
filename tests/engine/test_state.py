import re

import pytest
import torch

from gcp.engine import checkpoint
from gcp.engine.state import Progress, load_weights
from gcp.errors import CheckpointError


def test_everything_comes_back_through_a_file(toy, where, compare, tmp_path):
    state = toy.state(seed=0)
    toy.train(state, epochs=1)
    checkpoint.save(tmp_path / "last.pt", state.state_dict())
    expected = where(state)
    other = toy.state(seed=1)
    assert compare(where(other), expected)
    other.load_state_dict(checkpoint.load(tmp_path / "last.pt"))
    assert compare(where(other), expected) == []


def test_the_average_is_what_is_evaluated(toy):
    state = toy.state(ema=0.9)
    assert state.evaluated is state.ema.module
    assert (plain := toy.state(ema=None)).evaluated is plain.model


def test_a_checkpoint_without_average_starts_it_at_the_weights(toy):
    saved = toy.state(ema=None, seed=0).state_dict()
    state = toy.state(ema=0.9, seed=1)
    state.load_state_dict(saved)
    assert torch.equal(state.ema.module.classifier.weight, saved["model"]["classifier.weight"])


def test_weights_alone_cannot_be_continued(toy):
    with pytest.raises(CheckpointError, match=r"best\.pt .*no optimizer, scaler, progress"):
        toy.state().load_state_dict({"model": {}}, "best.pt")


def test_the_state_of_another_optimizer(toy):
    saved = toy.state().state_dict()
    saved["optimizer"]["param_groups"] = saved["optimizer"]["param_groups"][:1]
    with pytest.raises(CheckpointError, match=r"last\.pt: the state of another optimizer: .*param"):
        toy.state().load_state_dict(saved, "last.pt")


def test_weights_of_another_model_list_what_differs():
    weights = {"weight": torch.zeros(3, 2), "extra": torch.zeros(1)}
    with pytest.raises(CheckpointError) as caught:
        load_weights(torch.nn.Linear(4, 3), weights, "x.pt")
    message = r"x\.pt .*missing bias\b.*not in the model: extra\b.*weight: \(3, 2\) .*file, \(3, 4\) .*model$"
    assert re.match(message, str(caught.value))


def test_a_long_list_of_differences_is_cut():
    with pytest.raises(CheckpointError, match=r"not in the model: w3; and 5 more$"):
        load_weights(torch.nn.Linear(1, 1), {f"w{i}": torch.zeros(1) for i in range(9)}, "x.pt")


def test_refused_weights_change_nothing():
    model = torch.nn.Linear(2, 1)
    before = model.weight.clone()
    with pytest.raises(CheckpointError):
        load_weights(model, {"weight": torch.ones(1, 2), "bias": torch.ones(2)}, "x.pt")
    assert torch.equal(model.weight, before)


def test_best_is_the_higher_accuracy_and_at_a_tie_the_lower_loss():
    progress = Progress()
    taken = []
    for step, (top1, loss) in enumerate([(50, 1.0), (50, 1.1), (50, 0.9), (49, 0.1), (51, 2.0), (51, 2.0)]):
        progress.step = step
        taken.append(progress.improve({"top1": top1, "loss": loss}))
    assert taken == [True, False, True, False, True, False]
    assert progress.best == {"top1": 51, "loss": 2.0, "step": 4, "epoch": 1}


def test_a_new_epoch_clears_its_sums():
    progress = Progress(step=8, epoch=1, batch=7, loss_sum=2.0, correct=3.0, count=20, seconds=1.0, validation={"a": 1})
    progress.start_epoch()
    assert progress == Progress(step=8, epoch=2)
