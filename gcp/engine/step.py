"""One optimizer step: the gradients of a window of batches, the check that they are finite, the update.

A window is `accumulate` batches (fewer at the end of an epoch). Its gradient is that of the mean loss over all
its samples, so a window of four batches of 16 equals one batch of 64 where there is no batch norm.

The check comes after the next images have been read, while the device is still computing, and before the update:
one synchronisation per step at the moment when the host has nothing else to do, and no inf or NaN ever reaches
the weights.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from gcp.engine.loader import Batch
from gcp.engine.precision import autocast
from gcp.engine.state import TrainingState


@dataclass(frozen=True)
class Recipe:
    """How a step is made.

    Attributes:
        accumulate: batches per optimizer step.
        label_smoothing: share of the target spread over all classes.
        mixup: alpha of mixup, 0 for none.
        cutmix: alpha of CutMix, 0 for none.
        clip: largest global gradient norm, None for no clipping.
        amp: none, bf16 or fp16.
        channels_last: images in channels-last memory order.
        seed: of the mixing of images.
    """

    accumulate: int = 1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    clip: float | None = None
    amp: str = "none"
    channels_last: bool = False
    seed: int = 0


def mix_seed(seed: int, epoch: int, batch: int) -> int:
    """Seed of the mixing of one batch: a function of its place alone, so that a resumed run repeats it."""
    return (seed * 1_000_003 + epoch) * 1_000_003 + batch


def windows(
    batches: Iterator[Batch], recipe: Recipe, num_classes: int, epoch: int, start: int
) -> Iterator[list[Batch]]:
    """Group batches into windows, mixing images on the way. `start` is the place of the first batch."""
    window: list[Batch] = []
    for place, (images, labels) in enumerate(batches, start):
        if recipe.mixup > 0 or recipe.cutmix > 0:
            from gcp.data.mix import mix

            seed = mix_seed(recipe.seed, epoch, place)
            images, labels = mix(images, labels, num_classes, recipe.mixup, recipe.cutmix, seed)
        window.append((images, labels))
        if len(window) == recipe.accumulate:
            yield window
            window = []
    if window:
        yield window


def backward(
    forward: Callable[[Tensor], Tensor],
    window: list[Batch],
    recipe: Recipe,
    device: torch.device,
    scaler: torch.amp.GradScaler,
) -> Tensor:
    """Add the gradient of the window's mean loss to the parameters.

    Returns:
        float64 tensor (2,) on `device`: sum of the losses, number of right answers (with mixed labels: of
        samples whose heavier label was found).
    """
    samples = sum(len(labels) for _, labels in window)
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    for images, labels in window:
        images, labels = to_device(images, device, recipe.channels_last), labels.to(device, non_blocking=True)
        with autocast(device, recipe.amp):
            logits = forward(images)
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        loss = F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing, reduction="sum") / samples
        scaler.scale(loss).backward()
        with torch.no_grad():
            hard = labels.argmax(1) if labels.ndim == 2 else labels
            sums += torch.stack([loss.double() * samples, (logits.argmax(1) == hard).sum().double()])
    return sums


def to_device(images: Tensor, device: torch.device, channels_last: bool) -> Tensor:
    """Images on the device in the wanted memory order; the copy does not wait where memory is pinned."""
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    return images.to(device, non_blocking=True, memory_format=memory_format)


def gradient_norm(state: TrainingState) -> Tensor:
    """Global norm of the gradients, float32 tensor (), after the loss scale has been taken out."""
    state.scaler.unscale_(state.optimizer)
    gradients = [p.grad for group in state.optimizer.param_groups for p in group["params"] if p.grad is not None]
    return get_total_norm(gradients)


def is_finite(model: nn.Module, loss: Tensor, norm: Tensor | None) -> bool:
    """Whether loss, gradient norm (None: not asked for) and every head's features are finite. Synchronises."""
    from gcp.heads import nonfinite

    fine = torch.isfinite(loss)
    if norm is not None:
        fine = fine & torch.isfinite(norm)
    for flag in nonfinite(model).values():
        fine = fine & ~flag
    return bool(fine)


def update(state: TrainingState, norm: Tensor, clip: float | None) -> None:
    """Clip, make the optimizer step, clear the gradients, let the average follow."""
    if clip is not None:
        parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
        clip_grads_with_norm_(parameters, clip, norm)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema:
        state.ema.update(state.model, state.progress.step)
