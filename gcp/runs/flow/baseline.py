"""What a flow is compared with: one normal distribution, fitted to the same noisy images, scored on the same split."""

import logging
from collections.abc import Iterator

import torch
from torch import Tensor

from gcp.config import FlowConfig
from gcp.data import Splits
from gcp.engine.device import ToDevice
from gcp.engine.likelihood import Bits, evaluate_bits
from gcp.flow import Gaussian
from gcp.runs import build

log = logging.getLogger("gcp")

LARGEST = 8192  # numbers in an image: its covariance takes 0.5 GB


def baseline(config: FlowConfig, splits: Splits, device: torch.device, bits: Bits) -> dict | None:
    """Bits per dimension of the Gaussian of the training images, by split; an empty split is left out. None, and a line
    on the log, where the images are too few or too large for a full covariance.
    """
    numbers, given = bits.dimensions, len(splits.train)
    if given <= numbers or numbers > LARGEST:
        why = f"it takes more than {numbers} images, got {given}" if given <= numbers else f"the most are {LARGEST}"
        log.warning("no Gaussian to compare with: a full covariance of %d numbers was not fitted, %s", numbers, why)
        return None

    def images() -> Iterator[Tensor]:
        loader = build.score_loader(config, splits.train, device)
        to_device = ToDevice(device, loader.normalize)
        for batch in loader.epoch(0):
            yield to_device(*batch)[0]

    model = Gaussian(images())
    scores = {
        name: evaluate_bits(model, build.score_loader(config, getattr(splits, name), device), device, bits)["loss"]
        for name in ("train", "val", "test")
        if len(getattr(splits, name))
    }
    return {"name": "Gaussian with a full covariance, of the training images", **scores}


def margins(test: dict, found: dict | None) -> dict:
    """Bits per dimension by which each scored set of weights is below the baseline, where there is one."""
    return {} if found is None else {name: found["test"] - scores["loss"] for name, scores in test.items()}
