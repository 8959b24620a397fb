"""Scores of a model on a split, and what it makes of every sample: each exactly once and in its place.

Several processes score whole batches each. A sample's row is zero in all processes but one, so that the sums over the
processes are exact: the result is that of one process to the last bit, for any batch size.

The logits of several views of an image may be averaged, before the softmax:

    one      the image as its data set's transform leaves it
    mirror   it and its mirror image, as the published fine-grained evaluations do
    ten      the four corners and the centre of the image at 256/224 of the side, and their mirrors: Krizhevsky,
             Sutskever and Hinton, NeurIPS 2012, section 4.1
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import accumulate
from math import fsum
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gcp.data import ImageSet, StreamSet
from gcp.data.normalize import Normalizer
from gcp.data.transforms import OWN, Transform, Unaugmented
from gcp.data.transforms.crops import RESIZE_RATIO, AsTimm
from gcp.engine.device import Batch, BatchSource, ToDevice, autocast
from gcp.engine.distributed import ALONE, Group
from gcp.errors import DataError, NonFiniteError, OptionError, suggest

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
        loader: `gcp.data.Loader` with train=False; for ten crops of images from `gcp.engine.evaluate.with_crops`.
        device: where to compute.
        amp: none, bf16 or fp16.
        channels_last: memory order of the images.
        group: the processes among which the batches are dealt out, as `loader.rank_slice` says.
        crops: of `gcp.engine.evaluate.CROPS`.

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
    to_device = ToDevice(device, loader.normalize, channels_last)
    for number, own, batch in in_place(loader):
        group.heartbeat()
        views = batch[0].unbind(1) if batch[0].ndim == 5 else (batch[0],)
        fed = [to_device(view, batch[1]) for view in views]
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


CROPS = ("one", "mirror", "ten")


def check_crops(crops: str) -> None:
    """Raise OptionError unless `crops` is one of CROPS."""
    if crops not in CROPS:
        raise OptionError(f"crops is {crops!r}; allowed: {', '.join(CROPS)}.{suggest(str(crops), CROPS)}")


class TenCrops:
    """Stored images to the views of which `average_logits` makes ten crops, (B, 6, C, S, S): corners and centre of a
    resized image, and the centre of its mirror image, mirrored back.

    The last differs from the centre by a pixel where the sides differ by an odd number: as in torchvision's ten_crop
    the image is mirrored before it is cut. The shorter side becomes 256/224 of S. Where the data set's own transform
    squeezes an image to a square, both do.
    """

    def __init__(self, transform: Transform, image_size: int):
        from torchvision.transforms import v2

        plain = transform.transform if isinstance(transform, Unaugmented) else transform
        steps = getattr(getattr(plain, "plain", None), "transforms", None)
        side = round(image_size * RESIZE_RATIO)
        squeezes = any(isinstance(step, v2.Resize) and len(step.size) == 2 for step in steps or ())
        squeezes |= any(isinstance(step, AsTimm) and step.squeezes for step in steps or ())
        mode = getattr(plain, "told", OWN).mode
        # A transform of another kind prepares whole batches in memory; its square image is resized instead.
        self.prepare = None if steps else plain
        self.resize, self.image_size = v2.Resize((side, side) if squeezes else side, mode), image_size
        self.normalize: Normalizer = transform.normalize

    def __call__(self, images: Any, seeds: np.ndarray | None) -> Tensor:
        if self.prepare is not None:
            images = self.prepare(images, None)
        return torch.stack([torch.stack(self._cut(self.resize(image))) for image in images])

    def _cut(self, image: Tensor) -> list[Tensor]:
        from torchvision.transforms.v2 import functional

        size = [self.image_size, self.image_size]
        return [*functional.five_crop(image, size), functional.center_crop(image.flip(-1), size).flip(-1)]


def with_crops(images: ImageSet | StreamSet, crops: str, image_size: int) -> ImageSet | StreamSet:
    """The same images, read as `average_logits` needs them for `crops`.

    Args:
        images: a split whose transform gives square images.
        crops: of CROPS.
        image_size: side of a crop.
    """
    check_crops(crops)
    return with_transform(images, lambda transform: TenCrops(transform, image_size)) if crops == "ten" else images


def with_transform(
    images: ImageSet | StreamSet, change: Callable[[Transform], Transform]
) -> ImageSet | StreamSet:  # fmt: skip
    """The same images through another transform, which `change` makes of their own."""
    changed: Any = copy.copy(images)
    changed.transform = change(changed.transform)
    return changed


def average_logits(model: nn.Module, views: list[Tensor], crops: str) -> Tensor:
    """Mean logits (B, num_classes) over views (B, C, H, W) each, and over their mirrors unless `crops` is "one"; "ten"
    takes those of TenCrops.

    One view goes through the model at a time, in as much memory as one crop takes. Half precision is averaged in
    float32.
    """
    if crops != "one":
        straight, mirrored = (views[:5], [*views[:4], views[5]]) if crops == "ten" else (views, views)
        views = [each for view, other in zip(straight, mirrored, strict=True) for each in (view, other.flip(3))]
    logits = [model(view) for view in views]
    logits = [each.float() if each.dtype in (torch.bfloat16, torch.float16) else each for each in logits]
    return logits[0] if len(logits) == 1 else torch.stack(logits).mean(0)
