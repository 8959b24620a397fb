"""Random numbers as a pure function of their keys.

`hashed(k1, k2, ...)` chains the SplitMix64 finaliser (Steele, Lea, Flood 2014, "Fast splittable pseudorandom
number generators"), a bijection of 64-bit integers. Nothing carries state, so the order of an epoch, the
augmentation of a sample and the split of a data set are the same on every platform, with every version of
NumPy and PyTorch, and with any number of workers.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

# The first key of every use, so that no two uses share a stream.
ORDER, AUGMENT, SPLIT, FEW_SHOT, MIX, STEP, NOISE, ITEM, TEST, VIEW, DRAW = range(1, 12)

_MASK = (1 << 64) - 1
_INCREMENT = np.uint64(0x9E3779B97F4A7C15)


def hashed(*keys: int | np.ndarray) -> np.ndarray:
    """Hash of integer keys, each an int or an integer array; they broadcast. Returns uint64, at least 1-d."""
    state = np.zeros(1, dtype=np.uint64)
    for key in keys:
        part = np.uint64(int(key) & _MASK) if np.ndim(key) == 0 else np.asarray(key).astype(np.uint64)
        state = _finalise((state ^ part) + _INCREMENT)
    return state


def uniform(*keys: int | np.ndarray) -> np.ndarray:
    """Numbers in [0, 1), float64, from the upper 53 bits of `hashed`."""
    return (hashed(*keys) >> np.uint64(11)) * 2.0**-53


def permutation(count: int, *keys: int) -> np.ndarray:
    """A permutation of range(count), int64, as a function of the keys."""
    return np.argsort(hashed(*keys, np.arange(count)), kind="stable").astype(np.int64)


def reseed(seed: int) -> None:
    """Seed the CPU generators of PyTorch, NumPy and Python; the generators of a GPU are left alone."""
    seed = int(seed)
    torch.random.default_generator.manual_seed(seed & (_MASK >> 1))
    np.random.seed(seed & 0xFFFFFFFF)
    random.seed(seed)


@contextmanager
def preserved() -> Iterator[None]:
    """Restore the global CPU random state of PyTorch, NumPy and Python on leaving."""
    states = torch.random.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.random.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def _finalise(state: np.ndarray) -> np.ndarray:
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
