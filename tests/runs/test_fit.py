"""gcp.fit: the loop of a run on any iterable of batches."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gcp
from gcp.engine.callback import Callback
from gcp.errors import DataError, NonFiniteError, OptionError


def two_classes(count=32, seed=0):
    """Images whose class is the correlation of their two channels: their means tell nothing."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 2, 6, 6, generator=generator)
    labels = torch.arange(count) % 2
    images[:, 1] = images[:, 0] * (2.0 * labels - 1).reshape(-1, 1, 1)
    return images, labels


def small_model(head="svd_pade"):
    torch.manual_seed(0)
    return gcp.create_model(nn.Conv2d(2, 4, 1), head=head, num_classes=2, dim=None, in_chans=2)


def test_a_covariance_head_learns_what_the_mean_cannot_tell():
    batches = DataLoader(TensorDataset(*two_classes(64)), batch_size=16)
    held_out = [two_classes(32, seed=1)]
    fitted = gcp.fit(small_model(), batches, held_out, epochs=8, lr=0.1, device="cpu")
    assert fitted.best["top1"] == 100 and len(fitted.history) == 8
    assert [row["step"] for row in fitted.history] == [4 * epoch for epoch in range(1, 9)]
    assert gcp.fit(small_model("average"), batches, held_out, epochs=8, lr=0.1, device="cpu").best["top1"] < 80


def test_it_is_the_plain_loop_of_torch():
    """One step of SGD is that of torch, weight for weight."""
    images, labels = two_classes(8)
    ours, theirs = small_model().double(), small_model().double()
    gcp.fit(ours, [(images.double(), labels)], epochs=1, lr=0.1, schedule="constant", device="cpu", decay_all=True)
    optimizer = torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    nn.functional.cross_entropy(theirs(images.double()), labels).backward()
    optimizer.step()
    for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-12)


def test_accumulated_batches_make_the_step_of_the_whole_batch():
    images, labels = two_classes(16)
    whole, parts = small_model(), small_model()
    gcp.fit(whole, [(images, labels)], epochs=2, lr=0.1, device="cpu")
    batches = list(zip(images.split(4), labels.split(4), strict=True))
    gcp.fit(parts, batches, epochs=2, lr=0.1, accumulate=4, device="cpu")
    for own, other in zip(whole.parameters(), parts.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-6)


def test_an_optimizer_of_ones_own_and_any_module():
    model = nn.Sequential(gcp.create_head("newton_schulz", 2), nn.Linear(3, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    fitted = gcp.fit(model, [two_classes(32)], epochs=12, optimizer=optimizer, schedule="constant", device="cpu")
    assert fitted.state.optimizer is optimizer and fitted.history[-1]["train_accuracy"] == 100


def test_callbacks_averaged_weights_and_files(tmp_path):
    class Steps(Callback):
        name = "steps"
        seen: list[int] = []  # noqa: RUF012

        def after_step(self, state, sums, log):
            self.seen.append(state.progress.step)

    callback = Steps()
    fitted = gcp.fit(
        small_model(), [two_classes(8)], [two_classes(8)], epochs=2, ema=0.5, callbacks=[callback], folder=tmp_path,
        device="cpu", mixup=0.2,
    )  # fmt: skip
    assert callback.seen == [1, 2] and fitted.state.ema is not None
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 3


def test_the_process_is_left_as_it_was():
    model, threads = small_model(), torch.get_num_threads()
    before = torch.random.get_rng_state()
    gcp.fit(model, [two_classes(8)], [two_classes(8)], epochs=1, device="cpu")
    assert torch.equal(torch.random.get_rng_state(), before) and torch.get_num_threads() == threads
    assert model.training


@pytest.mark.parametrize(
    ("loader", "words"),
    [
        ([(torch.zeros(2, 2, 6, 6, dtype=torch.uint8), torch.zeros(2, dtype=torch.long))], "batch 1.*uint8.*floating"),
        ([(torch.zeros(2, 2, 6, 6), torch.zeros(2))], "batch 1.*labels of torch.float32.*int64"),
        ([(torch.zeros(2, 2, 6, 6), torch.zeros(3, dtype=torch.long))], r"labels of torch.int64 \(3,\)"),
        ([torch.zeros(2, 2, 6, 6)], "batch 1.*Tensor.*images, labels"),
        ([], "no batches"),
        ([(torch.zeros(2, 2, 6, 6), torch.tensor([0, 2]))], "batch 1.*label 2.*0 to 1"),
        ([(torch.zeros(2, 2, 6, 6), torch.tensor([0, -1]))], "batch 1.*label -1.*0 to 1"),
    ],
)
def test_a_batch_that_is_none_is_named(loader, words):
    with pytest.raises(DataError, match=words):
        gcp.fit(small_model(), loader, epochs=1, device="cpu")


def test_a_generator_is_refused_where_it_is_read_twice():
    with pytest.raises(OptionError, match="batches_per_epoch"):
        gcp.fit(small_model(), (batch for batch in [two_classes(8)]), device="cpu")
    once = (batch for batch in [two_classes(8)])
    with pytest.raises(DataError, match=r"0 of 1 batches in epoch 2.*DataLoader"):
        gcp.fit(small_model(), once, epochs=2, batches_per_epoch=1, device="cpu")


def test_numbers_that_are_not_finite_stop_it_with_the_layer_named():
    images, labels = two_classes(8)
    model = small_model()
    with torch.no_grad():
        next(model.features.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=r"step 1, epoch 1, batch 1.*features"):
        gcp.fit(model, [(images, labels)], epochs=1, device="cpu")


@pytest.mark.parametrize(
    "arguments",
    [
        {"epochs": 0},
        {"accumulate": 0},
        {"epochs": True},
        {"schedule": "cosin"},
        {"lr": float("nan")},
        {"lr": 0},
        {"lr": "0.1"},
        {"momentum": -1.0},
        {"weight_decay": -1e-4},
        {"warmup": -1.0},
        {"mixup": -1.0},
        {"cutmix": -1.0},
        {"clip": -1.0},
        {"label_smoothing": 1.0},
        {"callbacks": [print]},
        {"device": "cud"},
        {"device": "cuda:99"},
    ],
    ids=str,
)
def test_arguments_out_of_range(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        gcp.fit(small_model(), [two_classes(8)], **{"device": "cpu", **arguments})
