from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gcp.data import mix
from gcp.engine.step import StepOptions, backward, count, gradient_norm, is_finite, mix_seed, update, windows

CPU = torch.device("cpu")


def plain_model(toy, **options):
    """In float64 and without batch norm or dropout, so that a batch is the sum of its samples."""
    return toy.model(norm=False, dropout=0, **options).double()


def stack(batches):
    return tuple(torch.cat(parts) for parts in zip(*batches, strict=True))


def first(toy):
    """A window of the first batch."""
    return next(windows(toy.loader(), StepOptions(), 0))


def to_device(toy, step_options=None):
    return (step_options or StepOptions()).to_device(toy.loader(), 3, CPU)


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


# ---------------------------------------------------------------- windows


@pytest.mark.parametrize(("accumulate", "sizes"), [(1, [1] * 7), (2, [2, 2, 2, 1]), (7, [7]), (9, [7])])
def test_windows_hold_every_batch_once_in_order(toy, accumulate, sizes):
    batches = list(toy.loader().epoch(0))
    got = list(windows(toy.loader(), StepOptions(accumulate=accumulate), 0))
    assert [len(window) for window in got] == sizes
    flat = [batch for window in got for batch in window]
    assert all(
        torch.equal(mine[0], theirs[0]) and torch.equal(mine[1], theirs[1])
        for mine, theirs in zip(flat, batches, strict=True)
    )


def test_a_window_is_read_when_it_is_asked_for():
    read = []

    class Slow:
        def epoch(self, epoch, start):
            for place in range(6):
                read.append(place)
                yield torch.zeros(1), torch.zeros(1)

        def size(self, batch):
            return 1

    stream = windows(Slow(), StepOptions(accumulate=2), 0)
    assert read == []
    next(stream)
    assert read == [0, 1]


@pytest.mark.parametrize("start", [0, 2, 5])
def test_mixing_depends_on_the_place_in_the_epoch_and_not_on_where_one_starts(toy, start):
    step_options = replace(toy.step_options, accumulate=1)
    whole = [w[0] for w in windows(toy.loader(), step_options, 4)]
    later = [w[0] for w in windows(toy.loader(), step_options, 4, start)]
    for batch, same in zip(whole[start:], later, strict=True):
        (images, labels), (others, other_labels) = (
            to_device(toy, step_options)(*batch[:3]),
            to_device(toy, step_options)(*same[:3]),
        )
        assert torch.equal(images, others) and torch.equal(labels, other_labels)
    images, labels = list(toy.loader().epoch(4))[start]
    expected = mix(images, labels, 3, step_options.mixup, step_options.cutmix, mix_seed(step_options.seed, 4, start))
    got = to_device(toy, step_options)(*whole[start][:3])
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


def test_no_two_places_of_a_run_share_a_mixing_seed():
    seeds = {mix_seed(seed, epoch, batch) for seed in range(3) for epoch in range(30) for batch in range(100)}
    assert len(seeds) == 9000


def test_labels_stay_numbers_without_mixing(toy):
    _, labels = to_device(toy)(*first(toy)[0][:3])
    assert labels.dtype == torch.int64 and labels.ndim == 1


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_window_equals_one_big_batch(toy, smoothing, mixed):
    """Batches of unequal size: the mean is over samples, not over batches."""
    model = plain_model(toy)
    step_options = StepOptions(accumulate=7, label_smoothing=smoothing, **({"mixup": 0.4} if mixed else {}))
    window = next(windows(toy.loader(dtype=torch.float64), step_options, 0))
    assert [len(part.labels) for part in window] == [3] * 6 + [2] and count(window) == 20
    state = toy.state(model)
    sums = backward(model, window, step_options, to_device(toy, step_options), state.scaler)
    got = gradients(model)
    model.zero_grad()
    images, labels = stack([to_device(toy, step_options)(*batch[:3]) for batch in window])
    logits = model(images)
    loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    loss.backward()
    for mine, theirs in zip(got, gradients(model), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-11, atol=1e-14)
    hard = labels.argmax(1) if mixed else labels
    assert sums.dtype == torch.float64
    assert sums[0].item() == pytest.approx(loss.item() * 20, rel=1e-12)
    assert sums[1].item() == (logits.argmax(1) == hard).sum().item()


def test_half_precision_logits_make_a_single_precision_loss(toy):
    model = toy.model(dropout=0)
    state = toy.state(model)
    sums = backward(model, first(toy), StepOptions(amp="bf16"), to_device(toy), state.scaler)
    exact = backward(model, first(toy), StepOptions(), to_device(toy), state.scaler)
    assert sums.dtype == torch.float64 and sums[0].item() == pytest.approx(exact[0].item(), rel=0.05)
    assert sums[0] != exact[0]
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


# ---------------------------------------------------------------- check and update


def test_the_norm_is_that_of_all_gradients_together(toy):
    state = toy.state()
    backward(state.model, first(toy), StepOptions(), to_device(toy), state.scaler)
    flat = torch.cat([g.flatten() for g in gradients(state.model)])
    assert gradient_norm(state).item() == pytest.approx(flat.norm().item(), rel=1e-6)


@pytest.mark.parametrize("clip", [None, 0.01, 1e6])
def test_clipping_scales_the_whole_gradient(toy, clip):
    state = toy.state(optimizer="sgd", ema=None, lr=1.0)
    for group in state.optimizer.param_groups:
        group["weight_decay"] = 0.0
    before = [p.detach().clone() for p in state.model.parameters()]
    backward(state.model, first(toy), StepOptions(), to_device(toy), state.scaler)
    raw = gradients(state.model)
    norm = gradient_norm(state)
    update(state, norm, clip)
    scale = min(1.0, clip / norm.item()) if clip else 1.0
    for old, new, gradient in zip(before, state.model.parameters(), raw, strict=True):
        assert torch.allclose(old - new, gradient * scale, rtol=1e-3, atol=1e-6)
    assert all(p.grad is None for p in state.model.parameters())


def test_the_average_follows_with_the_decay_of_its_step(toy):
    state = toy.state(ema=0.99, lr=1.0)
    for step, decay in ((0, 1 / 10), (2, 3 / 12), (10_000, 0.99)):
        old = state.ema.module.classifier.weight.clone()
        state.progress.step = step
        backward(state.model, first(toy), StepOptions(), to_device(toy), state.scaler)
        update(state, gradient_norm(state), None)
        expected = decay * old + (1 - decay) * state.model.classifier.weight.detach()
        assert torch.allclose(state.ema.module.classifier.weight, expected, rtol=1e-5, atol=1e-7)
        assert not torch.allclose(old, expected, rtol=1e-3)


def test_finite_means_loss_norm_and_every_head(toy):
    model = toy.model()
    fine, bad = torch.tensor([1.0, 2.0], dtype=torch.float64), torch.tensor(float("inf"))
    assert is_finite(model, fine[0], fine[1]) and is_finite(model, fine[0], None)
    assert not is_finite(model, bad, fine[1]) and not is_finite(model, fine[0], bad)
    assert not is_finite(model, torch.tensor(float("nan")), None)
    model.head.nonfinite.fill_(True)
    assert not is_finite(model, fine[0], fine[1])
