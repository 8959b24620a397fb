"""Random numbers of the process: seeded anew before every step, so that there is no state to keep.

What a step draws (dropout, stochastic depth) is a function of (seed, step, rank). A run that is resumed draws the same
without having stored anything, also with another number of processes.
"""

import os
import random

import numpy as np
import torch

from gcp.data.seeds import STEP, hashed


def seed_all(seed: int) -> None:
    """Seed torch (every device), NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed for one optimizer step of one process."""
    seed_all(int(hashed(STEP, seed, step, rank)[0] >> np.uint64(1)))


def deterministic(enabled: bool) -> None:
    """Ask torch for deterministic kernels. An operation that has none raises when it is reached.

    Costs speed on CUDA. Call before the first use of CUDA: cuBLAS reads its workspace setting once.
    """
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(enabled)
