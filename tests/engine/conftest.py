"""Tests of the engine leave the random states as they were."""

import random

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _global_state():
    """Leave the random states as they were found."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    yield
    torch.set_rng_state(states[0])
    np.random.set_state(states[1])
    random.setstate(states[2])
