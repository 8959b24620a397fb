"""A number that is not finite stops the run, names its place, and reaches no weight."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gcp.engine import train
from gcp.engine.step import StepOptions
from gcp.engine.train import Events
from gcp.errors import NonFiniteError


class At(nn.Module):
    """Identity, until its call number `call`, which `fault` changes."""

    def __init__(self, call, fault):
        super().__init__()
        self.call, self.fault, self.calls = call, fault, 0

    def forward(self, x):
        self.calls += 1
        # the run is looked at again after it has stopped, so from the call on every one is at fault
        return self.fault(x) if self.training and self.calls >= self.call else x


class InfiniteGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("inf")


def fail(x):
    torch.linalg.cholesky(-torch.eye(2))


def stops(toy, where, compare, model, expected, **options):
    """Train until the run stops; its message, and that weights, average and optimizer are those before the step."""
    state = toy.state(model)
    before = {}
    events = Events(callbacks=[toy.Watch(after=lambda state: before.update(where(state)))])
    with pytest.raises(NonFiniteError, match=expected):
        toy.train(state, events, **options)
    after = where(state)
    weights = dict(model.named_parameters())
    for name in ("model", "ema"):
        kept = {key: (before[name][key], after[name][key]) for key in weights}
        assert all(torch.equal(*pair) for pair in kept.values()), name
    assert compare(before["optimizer"]["state"], after["optimizer"]["state"]) == []
    assert all(p.grad is None for p in model.parameters())
    assert after["progress"]["step"] == before["progress"]["step"]
    return state


PLAIN = StepOptions(accumulate=1)


@pytest.mark.parametrize(
    ("fault", "first"),
    [
        (lambda x: x / 0, r"the output of layer features\.2 \(At\)"),
        (lambda x: x * float("nan"), r"the output of layer features\.2 \(At\)"),
        (
            InfiniteGradient.apply,
            r"gradient .*output .*features\.1, .*backward .*features\.2",
        ),
        (fail, r"layer features\.2"),
    ],
    ids=["inf", "nan", "gradient", "decomposition"],
)
def test_the_layer_is_named_with_step_epoch_and_batch(toy, where, compare, fault, first):
    model = toy.model(At(10, fault))
    expected = rf"step 10, epoch 2, batch 3\b.*First non-finite: .*{first}\..*weights .*before"
    stops(toy, where, compare, model, expected, step_options=PLAIN)


def test_a_window_of_several_batches_is_named_whole(toy, where, compare):
    model = toy.model(At(4, lambda x: x / 0))
    stops(toy, where, compare, model, r"stopped at step 2, epoch 1, batches 3-4: ")


def test_a_resumed_run_names_the_place_in_the_whole_run(toy):
    first = toy.state()
    toy.train(first, Events(stop=lambda: first.progress.step == 6))
    state = toy.state(toy.model(At(1, lambda x: x / 0)))
    state.progress = first.progress
    with pytest.raises(NonFiniteError, match=r"stopped at step 7, epoch 2, batches 5-6: "):
        toy.train(state)


def test_a_loss_that_overflows_after_finite_logits(toy, where, compare):
    model = toy.model()
    fault = At(3, lambda logits: logits * 0 + torch.tensor([3e38, -3e38, 3e38]))  # infinite for the second class
    model.classifier = nn.Sequential(model.classifier, fault)
    expected = r"step 3, epoch 3, batch 1\b.*loss inf.*First non-finite: the loss"
    stops(toy, where, compare, model, expected, step_options=PLAIN, loader=toy.loader(batch=20))


def test_an_image_that_is_not_finite(toy, where, compare):
    loader = toy.loader()
    order = loader.order(0)
    loader.dataset.images[order[7], 0, 2, 2] = float("nan")  # the second of the third batch
    stops(
        toy,
        where,
        compare,
        toy.model(),
        r"step 3, epoch 1, batch 3\b.*First non-finite: .*input images .*samples 1\b",
        step_options=PLAIN,
        loader=loader,
    )


def test_a_flag_raised_by_a_head_stops_the_run(toy, where, compare):
    """Where a head does not look at its features at once, as on a GPU."""
    model = toy.model()
    calls = []

    def flag(head, args, output):
        calls.append(1)
        if len(calls) >= 5:
            head.nonfinite.fill_(True)

    model.head.register_forward_hook(flag)
    stops(toy, where, compare, model, r"stopped at step 5, epoch 1, batch 5: ", step_options=PLAIN)


def test_weights_that_are_not_finite_are_named(toy):
    model = toy.model()
    state = toy.state(model)
    with torch.no_grad():
        model.classifier.bias[1] = float("nan")
    with pytest.raises(NonFiniteError, match=r"step 1, .*First non-finite: the weights.*classifier\.bias"):
        toy.train(state)


def test_the_message_says_what_to_do(toy):
    model = toy.model(At(1, lambda x: x / 0))
    with pytest.raises(NonFiniteError, match=r"optim\.lr.*optim\.clip.*head\.precision=float64\.$"):
        toy.train(toy.state(model), step_options=replace(PLAIN, clip=1.0))


def test_no_checkpoint_is_written_of_a_step_that_failed(toy):
    saved = []
    state = toy.state(toy.model(At(3, lambda x: x / 0)))
    with pytest.raises(NonFiniteError):
        toy.train(state, Events(save=lambda: saved.append(state.progress.step), save_every=1), step_options=PLAIN)
    assert saved == [1, 2]


# ---------------------------------------------------------------- loss scale


def scaled(toy, scale, *between):
    state = toy.state(toy.model(*between, dropout=0))
    state.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
    return state


def test_a_loss_scale_that_is_a_power_of_two_changes_nothing(toy, where, compare):
    ends = []
    for scale in (2.0**4, 2.0**10):
        torch.manual_seed(0)
        state = scaled(toy, scale)
        toy.train(state)
        ends.append(where(state)["model"])
    assert compare(*ends) == []


def test_an_overflow_of_the_gradient_leaves_the_step_out_and_halves_the_scale(toy):
    """Part of the search for a scale: the weights stay, the run goes on."""
    state = scaled(toy, 2.0**10, At(2, InfiniteGradient.apply))
    seen = {}

    def look(state):
        progress = state.progress
        seen[progress.step] = (state.scaler.get_scale(), state.model.classifier.weight.detach().clone())
        if progress.step == 2:
            state.model.features[2].call = 100  # fine again

    toy.train(state, Events(callbacks=[toy.Watch(after=look)]), step_options=PLAIN, epochs=1)
    assert [scale for scale, _ in seen.values()] == [1024.0] + [512.0] * 6
    weights = [weight for _, weight in seen.values()]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])


def test_a_gradient_that_overflows_at_every_scale_stops_the_run(toy):
    state = scaled(toy, 2.0**-12, At(1, InfiniteGradient.apply))
    with pytest.raises(NonFiniteError, match=r"step 3, .*gradient .*output .*features\.1"):
        toy.train(state, step_options=PLAIN)
    assert state.scaler.get_scale() == train.SMALLEST_SCALE


def test_a_failed_decomposition_is_not_lost(toy, monkeypatch):
    """Where its NaN has met nobody, at the latest the end of the epoch tells of it; nothing is saved."""
    from gcp.kernels import failures

    monkeypatch.setattr(failures, "_pending", failures.deque())
    info = torch.tensor([0, 3], dtype=torch.int32)

    def fail_at(state):
        if state.progress.step == 2:
            failures.add(failures.Pending(info, lambda: False, lambda: None, "cusolver, 4x4 float64"))

    saved = []
    events = Events(callbacks=[toy.Watch(after=fail_at)], save=lambda: saved.append(True))
    with pytest.raises(NonFiniteError, match=r"step 4: cusolver, 4x4 float64: matrix 1 .*\b2"):
        toy.train(toy.state(), events)
    assert not saved
