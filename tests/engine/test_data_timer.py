import time

import pytest
import torch

from gcp.engine.device import DataTimer
from gcp.engine.train import Events

CPU = torch.device("cpu")


def slow(items, pause):
    for item in items:
        time.sleep(pause)
        yield item


def test_the_time_of_reading_is_counted_and_no_other():
    wait = DataTimer(CPU)
    stream = slow("abc", 0.02)
    started = time.perf_counter()
    assert wait.next(stream) == "a"
    time.sleep(0.1)
    assert wait.next(stream) == "b"
    passed = time.perf_counter() - started
    assert 0.04 <= wait.take() <= passed - 0.1
    assert wait.take() == 0.0
    assert wait.next(stream) == "c" and wait.next(stream) is None
    assert wait.take() >= 0.02


class Slow:
    """The toy loader, with a pause before every batch."""

    def __init__(self, loader, pause):
        self.loader, self.pause = loader, pause
        self.normalize, self.rank_slice, self.size = loader.normalize, loader.rank_slice, loader.size

    def __len__(self):
        return len(self.loader)

    def epoch(self, epoch, start=0):
        return slow(self.loader.epoch(epoch, start), self.pause)


def test_a_slow_loader_shows_in_the_row_and_a_quick_one_does_not(toy):
    shares = []
    for pause in (0.05, 0.0):
        state = toy.state()
        toy.train(state, loader=Slow(toy.loader(), pause), epochs=1)
        (row,) = state.progress.history
        assert row["seconds"] >= 7 * pause and state.progress.waited == 0.0  # cleared with the epoch
        assert row["data_wait"] / 100 * row["seconds"] >= 7 * pause
        shares.append(row["data_wait"])
    assert shares[1] < shares[0] <= 100


def test_a_resumed_epoch_goes_on_counting(toy):
    """Half of the epoch with a slow loader, half with a quick one: the slow half stays in the sum."""
    state = toy.state()
    toy.train(state, Events(stop=lambda: state.progress.step == 2), loader=Slow(toy.loader(), 0.02))
    assert state.progress.waited >= 4 * 0.02
    resumed = toy.state()
    resumed.load_state_dict(state.state_dict())
    assert resumed.progress.waited == state.progress.waited
    toy.train(resumed, epochs=1)
    row = resumed.progress.history[0]
    assert row["data_wait"] / 100 * row["seconds"] >= state.progress.waited


def test_a_checkpoint_of_before_there_was_this_clock(toy):
    state = toy.state()
    toy.train(state, Events(stop=lambda: state.progress.step == 2))
    saved = state.state_dict()
    del saved["progress"]["waited"]
    resumed = toy.state()
    resumed.load_state_dict(saved)
    assert resumed.progress.waited == 0.0 and resumed.progress.step == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_a_batch_that_comes_while_it_computes_costs_nothing():
    device = torch.device("cuda")
    x = torch.randn(4096, 4096, device=device)
    x @ x
    torch.cuda.synchronize()
    wait = DataTimer(device)
    for _ in range(20):
        x = torch.nn.functional.normalize(x @ x)
    wait.next(slow("a", 0.001))
    torch.cuda.synchronize()
    assert wait.take() < 0.0005
    wait.next(slow("a", 0.05))
    torch.cuda.synchronize()
    assert 0.045 < wait.take() < 0.2
