import os
import random

import numpy as np
import torch

from gcp.engine import rng


def draw():
    return (
        torch.rand(3).tolist(),
        torch.randn(5).tolist(),
        np.random.rand(3).tolist(),
        np.random.standard_normal(3).tolist(),
        random.random(),
        random.gauss(0, 1),
    )


def test_a_seed_repeats_every_generator():
    rng.seed_all(5)
    first = draw()
    rng.seed_all(5)
    assert draw() == first
    rng.seed_all(6)
    assert all(a != b for a, b in zip(first, draw(), strict=True))


def test_a_seed_above_32_bits_is_taken():
    rng.seed_all(2**40 + 1)
    first = draw()
    rng.seed_all(2**40 + 1)
    assert draw() == first


def test_a_step_draws_by_seed_step_and_rank():
    def drawn(*place):
        rng.seed_step(*place)
        return draw()

    places = [(0, 0), (1, 0), (0, 1), (0, 0, 1), (0, 1, 1), (2**32 - 1, 10**9, 63)]
    first = [drawn(*place) for place in places]
    draw()
    assert [drawn(*place) for place in places] == first
    assert len({one[0][0] for one in first}) == len(places)
    assert drawn(0, 1) == drawn(0, 1, 0)


def test_deterministic_mode_is_switched_on_and_off(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    benchmark = torch.backends.cudnn.benchmark
    try:
        rng.deterministic(True)
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        rng.deterministic(False)
        assert not torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = benchmark
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
