"""The switch of a head during a run: when it is due, that nothing but the pooling changes, and resuming around it."""

from copy import deepcopy
from functools import partial

import pytest
import torch

from gcp.callbacks.hybrid.switch import Pooling, Switch, describe_switch
from gcp.engine import checkpoint, rng
from gcp.engine.train import Events, fit

BEFORE, AFTER = Pooling("newton_schulz", {"iterations": 2}), Pooling("svd_taylor", {"degree": 3})
LAST = 12  # optimizer steps of the toy run, four an epoch


@pytest.fixture
def begin(toy):
    """A state of the toy run whose head is that before the switch."""

    def begin(pooling=BEFORE, seed=0, ema=0.9):
        rng.seed_all(seed)
        model = toy.model(head="covariance")
        pooling.put_into(model)
        return toy.state(model, seed=seed, ema=ema)

    return begin


@pytest.fixture
def go(toy):
    """Train a state to the end of the toy run."""

    def go(state, switch=None, condition=None, fit=toy.train, after=None, **more):
        columns = (lambda state: {"condition": condition(state)}) if condition else None
        watch = toy.Watch(switch.make if switch else None, after, columns)
        fit(state, Events(callbacks=[watch], **more))
        return state

    return go


def head(state):
    return repr(state.model.head)


@pytest.mark.parametrize(("at", "at_step"), [(1, 1), (4, 4), (6, 6), (11, 11), (12, None)])
def test_before_which_step(at, at_step, begin, go):
    """Step `at` is made with the old head, the next one with the new; no step is left after the last."""
    heads = []
    state = begin()
    switch = Switch(BEFORE, AFTER, at)
    go(state, switch, after=lambda state: heads.append(head(state)))
    assert len(set(heads[:at])) == 1 and len(set(heads)) == (2 if at_step else 1)
    record = switch.made
    assert record is None if at_step is None else record["step"] == at_step
    if record:
        assert record["epoch"] == at // 4 + 1 and (record["from"], record["to"]) == ("newton_schulz", "svd_taylor")


def test_it_is_the_same_as_going_on_in_a_run_with_the_other_head(begin, go, where, compare):
    """The oracle: all of a run's state at the switch, loaded into one that was built with the other head."""
    saved = []
    state = begin()
    go(state, save=lambda: saved.append(deepcopy(state.state_dict())), save_every=1)
    other = begin(AFTER, seed=5)
    other.load_state_dict(saved[5])
    go(other)
    switched = go(begin(), Switch(BEFORE, AFTER, 6))
    assert compare(where(switched), where(other)) == []
    assert compare(where(switched)["model"], where(state)["model"])


def test_every_tensor_stays_the_same_object(begin):
    state = begin()
    models = state.model, state.ema.module
    before = [dict(model.named_parameters()) | dict(model.named_buffers()) for model in models]
    optimized = [p for group in state.optimizer.param_groups for p in group["params"]]
    state.progress.step = 1
    assert Switch(BEFORE, AFTER, 1).make(state)
    for model, tensors in zip(models, before, strict=True):
        after = dict(model.named_parameters()) | dict(model.named_buffers())
        assert list(after) == list(tensors) and all(after[name] is tensors[name] for name in after)
        assert "Taylor" in repr(model.head)
    assert {id(p) for p in optimized} == {id(p) for p in state.model.parameters()}
    assert state.model.training and not state.ema.module.training


def test_condition(begin, go):
    """Due after the first epoch whose number is below; one that is not measured is not below."""
    numbers = iter([None, 7.0, 5.0])
    switch = Switch(BEFORE, AFTER, below=7.5)
    state = go(begin(), switch, condition=lambda state: next(numbers))
    assert switch.made == {
        "step": 8,
        "epoch": 3,
        "from": "newton_schulz",
        "to": "svd_taylor",
        "reason": "condition number 7 below 7.5",
    }
    line = "head newton_schulz -> svd_taylor after step 8, in epoch 3: condition number 7 below 7.5"
    assert describe_switch(switch.made) == line
    assert [row["condition"] for row in state.progress.history] == [None, 7.0, 5.0]


@pytest.mark.parametrize("number", [7.5, float("inf"), float("nan")])
def test_condition_that_is_not_below(number, begin, go):
    switch = Switch(BEFORE, AFTER, below=7.5)
    go(begin(), switch, condition=lambda _: number)
    assert switch.made is None


@pytest.mark.parametrize("form", ["at", "condition"])
def test_resumed_from_every_step(form, begin, go, where, compare, tmp_path):
    """From a checkpoint of every step, before the switch and after it, with other random numbers."""

    def switch_of(made=None):
        moment = {"at": 6} if form == "at" else {"below": 2.0}
        return Switch(BEFORE, AFTER, **moment, made=made)

    switch = switch_of()
    condition = None if form == "at" else (lambda state: 2.5 - state.progress.epoch)
    kept = []
    state = begin()

    def save():
        kept.append(deepcopy(state.state_dict()) | {"made": switch.made})

    go(state, switch, condition, save=save, save_every=1)
    expected, record = where(state), switch.made
    assert len(kept) == LAST and record["step"] == (6 if form == "at" else 8)
    for saved in kept[:-1]:
        checkpoint.save(tmp_path / "last.pt", saved)
        saved = checkpoint.load(tmp_path / "last.pt")
        resumed = switch_of(saved["made"])
        again = begin(resumed.now, seed=77)
        again.load_state_dict(saved)
        assert compare(where(go(again, resumed, condition)), expected) == [], saved["progress"]["step"]
        assert resumed.made == record


def test_torch_compile_notices(toy, begin, go, monkeypatch):
    """The compiled run follows the switch: its weights are those of the run that is not compiled."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    torch.compiler.reset()

    def train(state, events, compile=False):
        return fit(state, toy.loader(), toy.step_options, toy.factor, 1, torch.device("cpu"), events, compile)

    after = Pooling("covariance", {})  # quicker to compile than a root
    plain = go(begin(), Switch(BEFORE, after, 2), fit=train).model.state_dict()
    unswitched = go(begin(), fit=train).model.state_dict()
    found = go(begin(), Switch(BEFORE, after, 2), fit=partial(train, compile=True)).model.state_dict()
    for name in plain:
        torch.testing.assert_close(found[name], plain[name], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(plain["classifier.weight"], unswitched["classifier.weight"], rtol=1e-3, atol=1e-5)
