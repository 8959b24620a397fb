"""Scores of a model on a split: every sample exactly once, sums in float64.

Several processes score whole batches each, and the losses of the batches are added in their order: the scores are those
of one process to the last bit.
"""

from dataclasses import asdict, dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from gcp.engine.distributed import ALONE, Group
from gcp.engine.feed import Feed
from gcp.engine.loader import Loader
from gcp.engine.precision import autocast
from gcp.errors import DataError, NonFiniteError


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


@torch.no_grad()
def evaluate(
    model: nn.Module,
    loader: Loader,
    device: torch.device,
    amp: str = "none",
    channels_last: bool = False,
    group: Group = ALONE,
) -> Scores:
    """Score `model` in evaluation mode, then put its mode back.

    Args:
        model: images (B, C, H, W) -> logits (B, num_classes), on `device`.
        loader: `gcp.data.Loader` with train=False.
        device: where to compute.
        amp: none, bf16 or fp16.
        channels_last: memory order of the images.
        group: the processes among which the batches are dealt out, as `loader.share` says.

    Raises:
        NonFiniteError: non-finite logits or features; names the batch.
        DataError: the split is empty.
    """
    training = model.training
    model.eval()
    try:
        return _evaluate(model, loader, device, amp, channels_last, group)
    finally:
        model.train(training)


def _evaluate(
    model: nn.Module, loader: Loader, device: torch.device, amp: str, channels_last: bool, group: Group
) -> Scores:
    num_classes = cast(int, model.num_classes)
    losses = torch.zeros(len(loader), dtype=torch.float64, device=device)
    right, seen = torch.zeros(2, num_classes, dtype=torch.int64, device=device)
    top5, bad = torch.zeros(2, dtype=torch.int64, device=device)
    feed = Feed(device, loader.normalize, channels_last)
    for number, batch in zip(filter(loader.share.scores, range(len(loader))), loader.epoch(0), strict=True):
        group.beat()
        images, labels = feed(*batch)
        try:
            with autocast(device, amp):
                logits = model(images)
        except (NonFiniteError, torch.linalg.LinAlgError) as error:
            raise NonFiniteError(f"evaluation stopped at batch {number + 1}: {error}") from error
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        losses[number] = F.cross_entropy(logits, labels, reduction="sum").double()
        found = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        right += torch.bincount(labels[found[:, 0]], minlength=num_classes)
        seen += torch.bincount(labels, minlength=num_classes)
        top5 += found.sum()
        bad += (~torch.isfinite(logits).all(1)).sum()
    # Every batch is of one process and zero in the others, so that the sums are exact.
    losses = group.sum(losses)
    right, seen, counts = map(group.sum, (right, seen, torch.stack([top5, bad])))
    count = int(seen.sum())
    if not count:
        raise DataError("the split to be scored has no images")
    if counts[1]:
        raise NonFiniteError(f"evaluation: {int(counts[1])} of {count} images have non-finite logits")
    present = seen > 0
    return Scores(
        loss=sum(losses.tolist()) / count,
        top1=100 * right.sum().item() / count,
        top5=100 * counts[0].item() / count if num_classes > 5 else None,
        macro=100 * (right[present].double() / seen[present]).mean().item(),
        count=count,
    )
