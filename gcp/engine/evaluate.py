"""Scores of a model on a split: every sample exactly once, the same for any batch size and number of processes."""

from dataclasses import asdict, dataclass
from math import fsum

import torch
from torch import nn

from gcp.engine.distributed import ALONE, Group
from gcp.engine.loader import Loader
from gcp.engine.samples import BEST, Samples, collect


@dataclass(frozen=True)
class Scores:
    """Result of an evaluation. Accuracies in percent.

    Attributes:
        loss: mean cross-entropy.
        top1: share of samples whose highest logit is their class.
        top5: share whose class is among the five highest; None where there are five classes or fewer.
        macro: mean over the classes that occur of the share of their samples that are right.
        count: samples scored.
    """

    loss: float
    top1: float
    top5: float | None
    macro: float
    count: int

    def as_dict(self) -> dict:
        """Plain dictionary, for JSON."""
        return asdict(self)


def score(samples: Samples) -> Scores:
    """The scores of collected samples."""
    count, classes = len(samples), samples.num_classes
    right = torch.bincount(samples.labels[samples.right], minlength=classes)
    seen = torch.bincount(samples.labels, minlength=classes)
    among = int((samples.classes == samples.labels[:, None]).sum())
    present = seen > 0
    return Scores(
        loss=fsum(samples.losses.tolist()) / count,
        top1=100 * int(right.sum()) / count,
        top5=100 * among / count if classes > BEST else None,
        macro=100 * (right[present].double() / seen[present]).mean().item(),
        count=count,
    )


def evaluate(
    model: nn.Module,
    loader: Loader,
    device: torch.device,
    amp: str = "none",
    channels_last: bool = False,
    group: Group = ALONE,
    crops: str = "one",
) -> Scores:
    """Score `model` in evaluation mode, then put its mode back; arguments and errors as for `collect`."""
    return score(collect(model, loader, device, amp, channels_last, group, crops))
