"""Scores of a model on a split: every sample exactly once, sums in float64."""

from dataclasses import asdict, dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from gcp.engine.loader import Loader
from gcp.engine.precision import autocast
from gcp.engine.step import to_device
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
) -> Scores:
    """Score `model` in evaluation mode, then put its mode back.

    Args:
        model: images (B, C, H, W) -> logits (B, num_classes), on `device`.
        loader: `gcp.data.Loader` with train=False.
        device: where to compute.
        amp: none, bf16 or fp16.
        channels_last: memory order of the images.

    Raises:
        NonFiniteError: non-finite logits or features; names the batch.
        DataError: the split is empty.
    """
    training = model.training
    model.eval()
    try:
        return _evaluate(model, loader, device, amp, channels_last)
    finally:
        model.train(training)


def _evaluate(model: nn.Module, loader: Loader, device: torch.device, amp: str, channels_last: bool) -> Scores:
    num_classes = cast(int, model.num_classes)
    loss = torch.zeros((), dtype=torch.float64, device=device)
    top5 = bad = torch.zeros((), dtype=torch.int64, device=device)
    right = seen = torch.zeros(num_classes, dtype=torch.int64, device=device)
    for batch, (images, labels) in enumerate(loader.epoch(0), 1):
        images, labels = to_device(images, device, channels_last), labels.to(device, non_blocking=True)
        try:
            with autocast(device, amp):
                logits = model(images)
        except (NonFiniteError, torch.linalg.LinAlgError) as error:
            raise NonFiniteError(f"evaluation stopped at batch {batch}: {error}") from error
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        loss = loss + F.cross_entropy(logits, labels, reduction="sum").double()
        found = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        right = right + torch.bincount(labels[found[:, 0]], minlength=len(right))
        seen = seen + torch.bincount(labels, minlength=len(seen))
        top5 = top5 + found.sum()
        bad = bad + (~torch.isfinite(logits).all(1)).sum()
    count = int(seen.sum())
    if not count:
        raise DataError("the split to be scored has no images")
    if bad:
        raise NonFiniteError(f"evaluation: {int(bad)} of {count} images have non-finite logits")
    present = seen > 0
    return Scores(
        loss=loss.item() / count,
        top1=100 * right.sum().item() / count,
        top5=100 * top5.item() / count if num_classes > 5 else None,
        macro=100 * (right[present].double() / seen[present]).mean().item(),
        count=count,
    )
