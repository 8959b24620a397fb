import random

import numpy as np
import pytest
import torch

from gcp.data.seeds import ORDER, SPLIT, hashed, permutation, preserved, reseed, uniform


def splitmix(state: int) -> int:
    """The finaliser in Python integers."""
    mask = (1 << 64) - 1
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
    return state ^ (state >> 31)


def test_hash_is_the_published_finaliser():
    # First output of SplitMix64 from state 0.
    assert hashed(0)[0] == 0xE220A8397B1DCDAF
    step = 0x9E3779B97F4A7C15
    expected = splitmix((splitmix((7 + step) % 2**64) ^ 123) + step & (2**64 - 1))
    assert hashed(7, 123)[0] == expected


def test_keys_broadcast_and_do_not_commute():
    assert np.array_equal(hashed(3, np.arange(4)), [hashed(3, i)[0] for i in range(4)])
    assert hashed(1, 2)[0] != hashed(2, 1)[0]
    assert hashed(-1)[0] == hashed(2**64 - 1)[0]


def test_uniform_is_flat():
    values = uniform(5, np.arange(20_000))
    assert values.min() >= 0 and values.max() < 1
    counts, _ = np.histogram(values, bins=20, range=(0, 1))
    assert abs(counts - 1000).max() < 150  # five standard deviations


def test_permutation():
    order = permutation(1000, ORDER, 0, 1)
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert not np.array_equal(order, permutation(1000, ORDER, 0, 2))
    assert not np.array_equal(order, permutation(1000, SPLIT, 0, 1))
    assert permutation(8, ORDER, 0, 0).tolist() == PINNED


# Written down so that a change of the order, which would break the resumption of old runs, is noticed.
PINNED = [3, 1, 6, 2, 4, 7, 0, 5]


def test_preserved_restores_every_generator(random_state):
    before = random_state()
    with preserved():
        reseed(2**64 - 1)
        first = torch.rand(1).item(), np.random.rand(), random.random()
        assert random_state() != before
        reseed(2**64 - 1)
        assert (torch.rand(1).item(), np.random.rand(), random.random()) == first
    assert random_state() == before


def test_preserved_restores_after_an_error(random_state):
    before = random_state()
    with pytest.raises(KeyError), preserved():
        reseed(1)
        raise KeyError
    assert random_state() == before
