"""The instruments of the benchmark: memory, turns, features, baseline."""

import pytest
import torch

from gcp.analysis.benchmarks.heads import Shape, Variant, compare, published
from gcp.engine.condition import condition_numbers
from gcp.errors import UnknownNameError
from gcp.measure import peak_bytes, saved_bytes, spread, take_turns
from gcp.studies.fidelity.features import relu_features
from gcp.studies.fidelity.methods import select_heads

CPU = torch.device("cpu")


def test_saved_bytes_counts_each_storage_once():
    x = torch.ones(1000, requires_grad=True)
    assert saved_bytes(lambda: x * x) == 4000
    assert saved_bytes(lambda: (x * x).exp()) == 8000  # the output of exp is saved too
    assert saved_bytes(lambda: x + 1) == 0


def test_peak_bytes_is_a_peak_and_not_a_sum():
    def one_after_another():
        for _ in range(5):
            torch.ones(2**16).sum()

    def together():
        return [torch.ones(2**16) for _ in range(5)]

    assert 2**18 <= peak_bytes(one_after_another, CPU) < 2 * 2**18
    assert 5 * 2**18 <= peak_bytes(together, CPU) < 6 * 2**18
    assert 2**18 <= peak_bytes(one_after_another, CPU) < 2 * 2**18  # nothing is carried over


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
    assert 30 < condition_numbers(x).median() < 1e5


def test_selection_keeps_the_order_and_names_the_nearest():
    assert select_heads(["seb", "svd_p*", "svd_pade"]) == ["seb", "svd_pade", "svd_pi"]
    with pytest.raises(UnknownNameError, match="Did you mean 'newton_schulz'"):
        select_heads(["newton_shulz"])


def test_baseline_is_the_published_form_of_the_same_rule():
    assert published("svd_taylor") == Variant("svd_taylor", "channel", "published", None)
    assert published("polar_express", "float64") == Variant("svd_original", "channel", "published", "float64")


def test_smaller_side_needs_less_memory_than_the_published_form():
    result = compare([Variant("svd_pade")], Shape(4, 64, 3), repeats=1, warmup=0, baseline=True)
    (row,) = result["rows"]
    assert row["ratio"]["peak"] < 0.5
    assert row["ratio"]["saved"] < 0.5
