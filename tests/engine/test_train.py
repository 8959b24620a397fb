import pytest
import torch
from torch import nn

from gcp.engine import rng, train
from gcp.engine.log import NullLog
from gcp.engine.step import StepOptions
from gcp.engine.train import Events, steps_per_epoch

CPU = torch.device("cpu")


# ---------------------------------------------------------------- order of things


def journal(toy, state, **options):
    """Names of the events of a run, in order, each with the step at which it came."""
    told = []

    def note(name, value=None):
        return lambda *_: told.append((name, state.progress.step)) or value

    log = NullLog()
    log.epoch = note("epoch")
    events = Events(
        validate=note("validate", {"top1": 1.0, "loss": 1.0}),
        improved=note("improved"),
        save=note("save"),
        log=log,
        **options,
    )
    toy.train(state, events)
    return told


def test_the_end_alone_where_no_interval_is_given(toy):
    assert journal(toy, toy.state()) == [
        ("epoch", 4),
        ("epoch", 8),
        *[(name, 12) for name in ("validate", "improved", "epoch", "save")],
    ]


def test_intervals_in_steps_and_a_checkpoint_that_comes_after_the_rest(toy):
    told = journal(toy, toy.state(), evaluate_every=4, save_every=6)
    assert told == [
        ("validate", 4),
        ("improved", 4),
        ("epoch", 4),
        ("save", 6),
        ("validate", 8),  # the same scores: not an improvement
        ("epoch", 8),
        ("validate", 12),
        ("epoch", 12),
        ("save", 12),
    ]


def test_a_checkpoint_by_the_clock(toy, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(train.time, "monotonic", lambda: clock[0])
    saved = []
    state = toy.state()

    def tick(state):
        clock[0] += 1.0

    def save():
        saved.append(state.progress.step)

    toy.train(state, Events(callbacks=[toy.Watch(after=tick)], save=save, save_seconds=2.5, saved_at=0.0))
    assert saved == [3, 6, 9, 12]


def test_a_checkpoint_holds_the_partial_epoch(toy):
    state = toy.state()
    seen = {}

    def save():
        p = state.progress
        seen[p.step] = (p.epoch, p.batch, p.count, p.loss_sum > 0, len(p.history))

    toy.train(state, Events(save=save, save_every=1), epochs=2)
    assert seen == {
        1: (0, 2, 6, True, 0),
        2: (0, 4, 12, True, 0),
        3: (0, 6, 18, True, 0),
        4: (1, 0, 0, False, 1),
        5: (1, 2, 6, True, 1),
        6: (1, 4, 12, True, 1),
        7: (1, 6, 18, True, 1),
        8: (2, 0, 0, False, 2),
    }


def test_the_model_is_in_training_mode_at_every_batch(toy):
    state = toy.state()
    modes = []

    def validate():
        state.model.eval()
        return {"top1": 0.0, "loss": 0.0}

    state.model.eval()
    state.model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    toy.train(state, Events(validate=validate, evaluate_every=1))
    assert len(modes) == 21 and all(modes)


def test_every_step_has_the_rate_of_its_schedule(toy):
    state = toy.state(lr=0.4)
    rates = {}
    log = NullLog()
    log.step = lambda progress, rate, sums: rates.update({progress.step: rate})
    toy.train(state, Events(log=log))
    assert list(rates) == list(range(1, 13))
    for step, rate in rates.items():
        assert rate == pytest.approx({"features": 0.4 / step, "classifier": 0.4 / step})


def test_rows_of_the_table(toy):
    """The scores of an epoch against sums taken batch by batch."""
    state = toy.state(lr=0.0)  # the weights stay as they are
    step_options = StepOptions(accumulate=2)
    scores = {"top1": 40.0, "loss": 2.0}
    toy.train(state, Events(validate=lambda: scores, evaluate_every=4), step_options=step_options, epochs=1)
    (row,) = state.progress.history
    model = toy.state(lr=0.0).model  # the same weights
    model.train()
    loss = right = 0
    for batch, (images, labels) in enumerate(toy.loader().epoch(0)):
        if batch % 2 == 0:
            rng.seed_step(step_options.seed, batch // 2)
        logits = model(images)
        loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        right += (logits.argmax(1) == labels).sum().item()
    assert row.pop("seconds") > 0 and row.pop("images_per_second") > 0
    assert 0 < row.pop("data_wait") < 100
    assert row.pop("train_loss") == pytest.approx(loss / 20, rel=1e-6)
    assert row == {
        "epoch": 1,
        "step": 4,
        "lr_features": 0.0,
        "lr_classifier": 0.0,
        "train_accuracy": pytest.approx(100 * right / 20),
        "val_loss": 2.0,
        "val_accuracy": 40.0,
    }


def test_an_epoch_without_evaluation_has_no_validation_scores(toy):
    state = toy.state()
    toy.train(state, Events(validate=lambda: {"top1": 5.0, "loss": 1.0}, evaluate_every=8))
    assert [row["val_accuracy"] for row in state.progress.history] == [None, 5.0, 5.0]


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 7), (2, 4), (3, 3), (7, 1), (50, 1)])
def test_steps_of_an_epoch(toy, accumulate, steps):
    assert steps_per_epoch(toy.loader(), accumulate) == steps
    state = toy.state()
    toy.train(state, step_options=StepOptions(accumulate=accumulate), epochs=2)
    assert state.progress.step == 2 * steps


# ---------------------------------------------------------------- accumulation


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_accumulation_equals_a_big_batch(toy, optimizer):
    """Without batch norm and dropout, in float64; the last window is short (22 = 8 + 8 + 6)."""
    ends = []
    for batch, accumulate in ((2, 4), (8, 1)):
        torch.manual_seed(0)
        state = toy.state(toy.model(norm=False, dropout=0).double(), optimizer=optimizer)
        loader = toy.loader(22, batch, dtype=torch.float64)
        toy.train(state, loader=loader, step_options=StepOptions(accumulate=accumulate, label_smoothing=0.1, clip=0.5))
        assert state.progress.step == 9
        ends.append(state)
    for name in ("model", "ema"):
        first, second = (getattr(end, name) for end in ends)
        first, second = (getattr(part, "module", part).state_dict() for part in (first, second))
        for key in first:
            assert torch.allclose(first[key], second[key], rtol=1e-9, atol=1e-12), (name, key)
    rows, others = (end.progress.history for end in ends)
    for row, other in zip(rows, others, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-9)
        assert row["train_accuracy"] == other["train_accuracy"]


def test_frozen_parts_stay(toy):
    model = toy.model(norm=False)
    model.features.requires_grad_(False)
    before = model.features[0].weight.clone()
    classifier = model.classifier.weight.clone()
    toy.train(toy.state(model))
    assert torch.equal(model.features[0].weight, before)
    assert not torch.equal(model.classifier.weight, classifier)


def test_it_learns(toy):
    torch.manual_seed(0)
    state = toy.state(toy.model(norm=False, dropout=0), ema=None, lr=0.1)
    train.fit(state, toy.loader(), StepOptions(), lambda step: 1.0, 15, CPU, Events())
    losses = [row["train_loss"] for row in state.progress.history]
    assert sum(losses[-3:]) < 0.6 * sum(losses[:3])
