"""From a batch of the loader to the input of the model, in training, evaluation and diagnosis alike.

bytes -> device -> memory order -> normalised -> mixed

Here are also what the engine asks of a loader, the time that the device waits for it, and mixed precision.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from gcp.data.rank_slice import RankSlice
from gcp.errors import OptionError, UnknownNameError

Batch = tuple[Tensor, Tensor]


class BatchSource(Protocol):
    """Batches whose order is a function of the epoch, such as those of `gcp.data.Loader`."""

    @property
    def rank_slice(self) -> RankSlice:
        """What this process has of every batch."""
        ...

    def __len__(self) -> int:
        """Batches per epoch."""
        ...

    def size(self, batch: int) -> int:
        """Images of a batch in all processes together."""
        ...

    @property
    def normalize(self) -> Callable[[Tensor], Tensor]:
        """From a batch as it is read, uint8 or in [0, 1], to the float32 input of a model, on any device."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Iterate over an epoch's batches, images and labels, from batch `start`."""
        ...


@dataclass(frozen=True)
class ToDevice:
    """Brings batches to the device; every call with the same arguments gives the same result.

    Attributes:
        device: where the model computes.
        normalize: of the loader.
        channels_last: memory order of the result.
        mixup: alpha of mixup, 0 for none.
        cutmix: alpha of CutMix, 0 for none.
        num_classes: width of mixed labels.
        leading: a batch begins with the image before it, with which its first is mixed (`gcp.data.rank_slice`).
    """

    device: torch.device
    normalize: Callable[[Tensor], Tensor]
    channels_last: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    num_classes: int = 0
    leading: bool = False

    @property
    def mixes(self) -> bool:
        """Whether images are mixed."""
        return self.mixup > 0 or self.cutmix > 0

    def __call__(self, images: Tensor, labels: Tensor, seed: int | None = None) -> Batch:
        """Images and labels on the device. With a `seed` they are mixed, if there is an alpha: then labels are
        (B, num_classes), else (B,) as they came. Nothing waits for the device where memory is pinned.
        """
        order = torch.channels_last if self.channels_last else torch.contiguous_format
        images, labels = images.to(self.device, non_blocking=True), labels.to(self.device, non_blocking=True)
        images = self.normalize(images.contiguous(memory_format=order))  # a byte is cheaper to move than its float
        if seed is not None and self.mixes:
            from gcp.data.mix import mix

            images, labels = mix(images, labels, self.num_classes, self.mixup, self.cutmix, seed)
        if self.leading:
            images, labels = images[1:], labels[1:]
        return images.contiguous(memory_format=order), labels


T = TypeVar("T")


class DataTimer:
    """Stopwatch of `next` on a stream of batches: for how long the device waits for images.

    On the CPU it is the time in which the next batch is read. On CUDA reading goes on beside computing, and waiting is
    the time on the device between two marks in its queue: one behind the work that was given to it, one set when the
    next batch has arrived. A batch that arrives while the device is still busy costs nothing.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._seconds = 0.0
        self._marks: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def next(self, stream: Iterator[T]) -> T | None:
        """The next element, None at the end."""
        if self._device.type != "cuda":
            started = time.perf_counter()
            element = next(stream, None)
            self._seconds += time.perf_counter() - started
            return element
        before = self._mark()
        element = next(stream, None)
        self._marks.append((before, self._mark()))
        return element

    def take(self) -> float:
        """Seconds since the last call. On CUDA only after a synchronisation that is behind the last `next`."""
        self._seconds += sum(before.elapsed_time(after) for before, after in self._marks) / 1000
        self._marks.clear()
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _mark(self) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event


AMP = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, amp: str) -> AbstractContextManager:
    """Autocast region for `amp` in none, bf16, fp16 on a device."""
    if amp not in AMP:
        raise UnknownNameError("mixed precision", amp, AMP)
    return torch.autocast(device.type, dtype=AMP[amp] or torch.bfloat16, enabled=amp != "none")


def create_scaler(device: torch.device, amp: str) -> torch.amp.GradScaler:
    """Gradient scaler; it does nothing unless `amp` is fp16.

    Raises:
        OptionError: fp16 on the CPU, whose convolutions have no usable fp16 path.
    """
    if amp == "fp16" and device.type == "cpu":
        raise OptionError("run.amp: fp16 needs a GPU. On the CPU use run.amp=bf16 or run.amp=none.")
    return torch.amp.GradScaler(device.type, enabled=amp == "fp16")
