"""Time and memory of calls, and the features that the benchmarks take."""

import os
from contextlib import nullcontext

import pytest
import torch

from gcp.errors import UnknownNameError
from gcp.measure import peak_bytes, saved_bytes, spread, take_turns, timed
from gcp.ops.eigenvalues import conditions, covariance_eigenvalues
from gcp.studies.fidelity.features import relu_features
from gcp.studies.fidelity.methods import select_heads

CPU = torch.device("cpu")


def test_saved_bytes_counts_each_storage_once():
    x = torch.ones(1000, requires_grad=True)
    assert saved_bytes(lambda: x * x) == 4000
    assert saved_bytes(lambda: (x * x).exp()) == 8000  # the output of exp is saved too
    assert saved_bytes(lambda: x + 1) == 0


def test_peak_bytes_is_a_peak_and_not_a_sum(capfd, monkeypatch):
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)  # one that is set is respected
    before = dict(os.environ)

    def one_after_another():
        for _ in range(5):
            torch.ones(2**16).sum()

    def together():
        return [torch.ones(2**16) for _ in range(5)]

    assert 2**18 <= peak_bytes(one_after_another, CPU) < 2 * 2**18
    assert 5 * 2**18 <= peak_bytes(together, CPU) < 6 * 2**18
    assert 2**18 <= peak_bytes(one_after_another, CPU) < 2 * 2**18  # nothing is carried over
    assert capfd.readouterr().err == "" and dict(os.environ) == before


def test_turns_interleave_and_drop_the_warm_up():
    order = []

    def lap(name):
        def call():
            order.append(name)
            return {"ms": float(len(order))}

        return call

    times = take_turns({name: lap(name) for name in "ab"}, warmup=1, repeats=2)
    assert order == list("ababab")
    assert times == {"a": {"ms": [3.0, 5.0]}, "b": {"ms": [4.0, 6.0]}}
    assert spread([3.0, 9.0, 4.0]) == {"median": 4.0, "min": 3.0, "max": 9.0}


def test_features_are_reproducible_non_negative_and_decaying():
    state = torch.random.get_rng_state()
    x = relu_features(2, 16, 8, torch.float32, seed=3)
    assert torch.equal(x, relu_features(2, 16, 8, torch.float32, seed=3))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert x.shape == (2, 16, 8, 8) and bool((x >= 0).all())
    assert 30 < conditions(covariance_eigenvalues(x)).median() < 1e5


def test_selection_keeps_the_order_and_names_the_nearest():
    assert select_heads(["seb", "svd_p*", "svd_pade"]) == ["seb", "svd_pade", "svd_pi"]
    with pytest.raises(UnknownNameError, match=r"'newton_schulz'\?"):
        select_heads(["newton_shulz"])


@pytest.mark.parametrize("ahead", [False, True])
def test_a_gpu_is_kept_busy_while_kernels_are_launched(ahead, monkeypatch):
    """Between the events is what the GPU does, not what it waits for."""
    order = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            order.append("event")

        def synchronize(self):
            order.append("wait")

        def elapsed_time(self, other):
            return 1.5

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append("wait"))
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: order.append("sleep"), raising=False)
    assert timed(lambda: order.append("call"), torch.device("cuda"), ahead) == (None, 1.5)
    assert order == ["wait", *["sleep"] * ahead, "event", "call", "event", "wait"]
