"""Random states of the process: seeding, and capture as tensors and plain Python.

A checkpoint is read with `weights_only=True`, which admits neither NumPy arrays nor arbitrary objects;
therefore the states of NumPy and of Python are kept as integer tensors.
"""

import os
import random
from typing import Any

import numpy as np
import torch


def seed_all(seed: int) -> None:
    """Seed torch (every device), NumPy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def deterministic(enabled: bool) -> None:
    """Ask torch for deterministic kernels. An operation that has none raises when it is reached.

    Costs speed on CUDA. Call before the first use of CUDA: cuBLAS reads its workspace setting once.
    """
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(enabled)


def get_state() -> dict:
    """States of the global generators: a dict of tensors, numbers and None."""
    numpy: Any = np.random.get_state(legacy=False)  # its stub does not tell a dictionary from a tuple
    version, words, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": (
            torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
            int(numpy["state"]["pos"]),
            int(numpy["has_gauss"]),
            float(numpy["gauss"]),
        ),
        "python": (int(version), torch.tensor(words, dtype=torch.int64), gauss),
    }


def set_state(state: dict) -> None:
    """Put back what `get_state` returned. CUDA states are put back as far as there are devices."""
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        for device, cuda in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(cuda.cpu(), device)
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
