"""One optimizer step: the gradients of a window of batches, the check that they are finite, the update.

A window is `accumulate` batches (fewer at the end of an epoch). Its gradient is that of the mean loss over all
its samples, so a window of four batches of 16 equals one batch of 64 where there is no batch norm. Several processes
have a slice of every batch each; together they make the same gradient, and exchange it once per window.

The check comes after the next images have been read, while the device is still computing, and before the update:
one synchronisation per step at the moment when the host has nothing else to do, and no inf or NaN ever reaches
the weights.
"""

import gc
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from gcp.engine.batch_norm import synchronised
from gcp.engine.device import BatchSource, ToDevice, autocast
from gcp.engine.distributed import ALONE, Group
from gcp.engine.metrics import CrossEntropy, Objective
from gcp.engine.state import TrainingState


class Part(NamedTuple):
    """A batch as it was read.

    Attributes:
        images: the slice of this process.
        labels: of these images.
        seed: of the mixing of the batch.
        total: number of images in all processes.
    """

    images: Tensor
    labels: Tensor
    seed: int
    total: int


# The batches of one optimizer step.
Window = list[Part]


@dataclass(frozen=True)
class StepOptions:
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
        objective: what is minimised, None for cross-entropy.
    """

    accumulate: int = 1
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    clip: float | None = None
    amp: str = "none"
    channels_last: bool = False
    seed: int = 0
    objective: Objective | None = None

    @property
    def minimised(self) -> Objective:
        """The objective; by default cross-entropy, with label smoothing."""
        return self.objective or CrossEntropy(self.label_smoothing)

    def to_device(self, loader: BatchSource, num_classes: int, device: torch.device) -> ToDevice:
        """What brings the batches of `loader` to the device."""
        leading = loader.rank_slice.leading
        return ToDevice(device, loader.normalize, self.channels_last, self.mixup, self.cutmix, num_classes, leading)


def mix_seed(seed: int, epoch: int, batch: int) -> int:
    """Seed of the mixing of one batch: a function of its place alone, so that a resumed run repeats it."""
    return (seed * 1_000_003 + epoch) * 1_000_003 + batch


def windows(loader: BatchSource, options: StepOptions, epoch: int, start: int = 0) -> Iterator[Window]:
    """The windows of an epoch of `loader`, from batch `start` on."""
    window: Window = []
    for place, (images, labels) in enumerate(loader.epoch(epoch, start), start):
        window.append(Part(images, labels, mix_seed(options.seed, epoch, place), loader.size(place)))
        if len(window) == options.accumulate:
            yield window
            window = []
    if window:
        yield window


def count(window: Window) -> int:
    """Images of a window, in all processes."""
    return sum(part.total for part in window)


def backward(
    forward: Callable[[Tensor], Tensor],
    window: Window,
    options: StepOptions,
    to_device: ToDevice,
    scaler: torch.amp.GradScaler,
    world: int = 1,
) -> Tensor:
    """Add the gradient of the window's mean loss to the parameters.

    `world`: processes whose gradients `forward` averages in the backward of the last batch
    (`DistributedDataParallel`); each has its slices.

    Returns:
        float64 tensor (2,) on the device: sum of the losses, and of what the objective counts beside (right answers),
        of the slices of this process.
    """
    samples, objective = count(window), options.minimised
    sums = torch.zeros(2, dtype=torch.float64, device=to_device.device)
    for number, part in enumerate(window, 1):
        # One at a time: as floats a window takes four times its bytes.
        images, labels = to_device(part.images, part.labels, part.seed)
        with _exchange(forward, number == len(window)):
            with autocast(to_device.device, options.amp):
                outputs = forward(images)
            outputs = outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs
            loss, counted = objective(outputs, labels)
            scaler.scale(loss * world / samples).backward()
        sums += torch.stack([loss.detach().double(), counted.double()])
    return sums


def _exchange(forward: Callable[[Tensor], Tensor], last: bool) -> AbstractContextManager:
    """Processes exchange the gradient of a window, not that of each of its batches."""
    return nullcontext() if last or not hasattr(forward, "no_sync") else forward.no_sync()


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


class Forward:
    """The model as a step calls it: gradients averaged over the processes, and compiled.

    Both wrappers know the parameters that they were made for. When these are replaced by others, the `version` of the
    training state counts up, and the next step is made with new wrappers.
    """

    def __init__(self, state: TrainingState, device: torch.device, compile: bool = False, group: Group = ALONE):
        self.state, self.device, self.compile, self.group = state, device, compile, group
        self._wrapped: Callable[[Tensor], Tensor] | None = None
        self._version = state.version

    def __call__(self) -> Callable[[Tensor], Tensor]:
        """Images -> logits, of the model as it is now."""
        if self._wrapped is not None and self._version != self.state.version:
            self._forget()
        if self._wrapped is None:
            model = self.state.model
            model = _distributed(model, self.device) if self.group.world > 1 else model
            self._wrapped = torch.compile(model) if self.compile else model
            self._version = self.state.version
        return self._wrapped

    def _forget(self) -> None:
        """Let go of the wrappers before there are new ones: the exchange of gradients and the compiled graphs hold the
        old parameters, and graphs of shapes that are gone would count against the limit of recompilations.
        """
        self._wrapped = None
        if self.compile or self.group.world > 1:
            gc.collect()
        if self.compile:
            torch.compiler.reset()


def _distributed(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with gradients averaged over the processes; batch-norm statistics of rank 0 where each has its own."""
    known = inspect.signature(DistributedDataParallel).parameters
    buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # its older name
    options: dict[str, Any] = {
        "device_ids": [device] if device.type == "cuda" else None,
        "gradient_as_bucket_view": True,  # no second copy of the gradients
        buffers: not synchronised(model),
    }
    return DistributedDataParallel(model, **options)
