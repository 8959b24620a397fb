"""Scores of a model on a split, and what it makes of every sample: each exactly once and in its place.

Several processes score whole batches each. A sample's row is zero in all processes but one, so that the sums over the
processes are exact: the result is that of one process to the last bit, for any batch size.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from math import fsum
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcp.engine.crops import average_logits, check_crops
from gcp.engine.device import Batch, BatchSource, ToDevice, autocast
from gcp.engine.distributed import ALONE, Group
from gcp.errors import DataError, NonFiniteError

BEST = 5  # classes that are kept of each sample


@dataclass(frozen=True)
class Samples:
    """N samples in the order of their data set, on the CPU.

    Attributes:
        labels: (N,) int64.
        classes: (N, k) int64, the classes of the k = min(5, num_classes) highest logits, the highest first.
        probabilities: (N, k) float64, the softmax at these.
        losses: (N,) float64, cross-entropy.
        num_classes: of the model.
    """

    labels: Tensor
    classes: Tensor
    probabilities: Tensor
    losses: Tensor
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def predicted(self) -> Tensor:
        """The class of the highest logit, (N,) int64."""
        return self.classes[:, 0]

    @property
    def right(self) -> Tensor:
        """Whether that is the label, (N,) bool."""
        return self.predicted == self.labels

    @property
    def confidence(self) -> Tensor:
        """The probability of the predicted class, (N,) float64."""
        return self.probabilities[:, 0]


def in_place(loader: BatchSource) -> Iterator[tuple[int, slice, Batch]]:
    """The batches that this process scores: number, places of the images in the split, images and labels."""
    sizes = [loader.size(number) for number in range(len(loader))]
    starts = list(accumulate(sizes, initial=0))
    for number, batch in zip(filter(loader.rank_slice.scores, range(len(loader))), loader.epoch(0), strict=True):
        yield number, slice(starts[number], starts[number + 1]), batch


@torch.no_grad()
def collect(
    model: nn.Module,
    loader: BatchSource,
    device: torch.device,
    amp: str = "none",
    channels_last: bool = False,
    group: Group = ALONE,
    crops: str = "one",
) -> Samples:
    """Run `model` in evaluation mode over a split, then put its mode back.

    Args:
        model: images (B, C, H, W) -> logits (B, num_classes), on `device`.
        loader: `gcp.data.Loader` with train=False; for ten crops of images from `gcp.engine.crops.with_crops`.
        device: where to compute.
        amp: none, bf16 or fp16.
        channels_last: memory order of the images.
        group: the processes among which the batches are dealt out, as `loader.rank_slice` says.
        crops: of `gcp.engine.crops.CROPS`.

    Raises:
        NonFiniteError: non-finite logits or features; names the batch.
        DataError: the split is empty.
    """
    check_crops(crops)
    training = model.training
    model.eval()
    try:
        return _collect(model, loader, device, amp, channels_last, group, crops)
    finally:
        model.train(training)


def _collect(
    model: nn.Module,
    loader: BatchSource,
    device: torch.device,
    amp: str,
    channels_last: bool,
    group: Group,
    crops: str,
) -> Samples:
    num_classes = cast(int, model.num_classes)
    count = sum(loader.size(number) for number in range(len(loader)))
    kept = min(BEST, num_classes)
    labels = torch.zeros(count, dtype=torch.int64, device=device)
    classes = torch.zeros(count, kept, dtype=torch.int64, device=device)
    probabilities = torch.zeros(count, kept, dtype=torch.float64, device=device)
    losses = torch.zeros(count, dtype=torch.float64, device=device)
    bad = torch.zeros((), dtype=torch.int64, device=device)
    feed = ToDevice(device, loader.normalize, channels_last)
    for number, own, batch in in_place(loader):
        group.beat()
        views = batch[0].unbind(1) if batch[0].ndim == 5 else (batch[0],)
        fed = [feed(view, batch[1]) for view in views]
        try:
            with autocast(device, amp):
                logits = average_logits(model, [images for images, _ in fed], crops)
        except (NonFiniteError, torch.linalg.LinAlgError) as error:
            raise NonFiniteError(f"evaluation stopped at batch {number + 1}: {error}") from error
        labels[own] = fed[0][1]
        classes[own] = logits.topk(kept, dim=1).indices
        probabilities[own] = logits.double().softmax(1).gather(1, classes[own])
        losses[own] = F.cross_entropy(logits, labels[own], reduction="none").double()
        bad += (~torch.isfinite(logits).all(1)).sum()
    if not count:
        raise DataError("the split to be scored has no images")
    if found := int(group.sum(bad)):
        raise NonFiniteError(f"evaluation: {found} of {count} images have non-finite logits")
    labels, classes, probabilities, losses = (
        group.sum(each).cpu() for each in (labels, classes, probabilities, losses)
    )  # fmt: skip
    return Samples(labels, classes, probabilities, losses, num_classes)


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
    loader: BatchSource,
    device: torch.device,
    amp: str = "none",
    channels_last: bool = False,
    group: Group = ALONE,
    crops: str = "one",
) -> Scores:
    """Score `model` in evaluation mode, then put its mode back; arguments and errors as for `collect`."""
    return score(collect(model, loader, device, amp, channels_last, group, crops))
