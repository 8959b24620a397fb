"""What a transform is, how one function per image becomes one, and the registry of those that have a name."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from gcp.data.normalize import Normalize, Normalizer
from gcp.data.seeds import preserved, reseed
from gcp.errors import OptionError
from gcp.registry import Entry, Registry

if TYPE_CHECKING:
    from torchvision.transforms.v2 import InterpolationMode

# With which the published backbones were trained; grey: averages.
IMAGENET = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
GREY = Normalize((0.449,), (0.226,))


@dataclass(frozen=True)
class Preprocessing:
    """How images are to be prepared beside their size, as far as it is told; None is the transform's own way.

    Attributes:
        mean: of each channel, for values in [0, 1]; a single one stands for all. Grey images take the average.
        std: the deviation, likewise.
        interpolation: of the resizing: nearest, bilinear, bicubic, ... as torchvision names it.
        crop_pct: share of the resized short side that the centre crop of evaluation keeps.
        crop_mode: what is cut: center of the image, squash (of the image squeezed to a square), or border, which
            pads the whole image.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    crop_pct: float | None = None
    crop_mode: str | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """From values by the names of the attributes; others are left aside."""
        known = {field.name: values.get(field.name) for field in fields(cls)}
        made: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}
        return cls(**made)

    def normalize(self, own: Normalize) -> Normalize:
        """`own` with the mean and the deviation that are told.

        Raises OptionError where they are of another number of channels.
        """
        channels = len(own.mean)
        told = {"mean": self.mean, "std": self.std}
        return replace(own, **{key: _of_channels(key, each, channels) for key, each in told.items() if each})

    @property
    def mode(self) -> "InterpolationMode":
        """Of torchvision's resizing; bilinear where nothing is told."""
        from torchvision.transforms.v2 import InterpolationMode

        return InterpolationMode(self.interpolation or "bilinear")


OWN = Preprocessing()


def _of_channels(key: str, values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if len(values) == 1 or channels == 1:
        return (math.fsum(values) / len(values),) * channels
    if len(values) != channels:
        raise OptionError(f"data.{key} has {len(values)} numbers; allowed: one, or one for each of {channels} channels")
    return values


class Transform(Protocol):
    """Stored images to (B, C, S, S) uint8, or floating point in [0, 1]; each augmented by its seed, if there are
    seeds (B,) uint64, and by nothing else.
    """

    @property
    def normalize(self) -> Normalizer: ...

    def __call__(self, images: Any, seeds: np.ndarray | None) -> Tensor: ...


class PerImage:
    """One function for each image (C, h, w): `train` under the seed of the image, `plain` where there are no seeds."""

    def __init__(
        self,
        train: Callable[[Tensor], Tensor],
        plain: Callable[[Tensor], Tensor],
        normalize: Normalizer = IMAGENET,
        told: Preprocessing = OWN,
    ):
        self.train = train
        self.plain = plain
        self.normalize = normalize
        self.told = told

    def __call__(self, images: Iterable[Tensor] | Tensor, seeds: np.ndarray | None) -> Tensor:
        if seeds is None:
            return torch.stack([self.plain(image) for image in images])
        with preserved():
            return torch.stack([self._augment(image, seed) for image, seed in zip(images, seeds, strict=True)])

    def _augment(self, image: Tensor, seed: int) -> Tensor:
        reseed(seed)
        return self.train(image)


class Unaugmented:
    """A transform that ignores the seeds: training sees what evaluation sees."""

    def __init__(self, transform: Transform):
        self.transform = transform
        self.normalize = transform.normalize

    def __call__(self, images: Any, seeds: np.ndarray | None) -> Tensor:
        return self.transform(images, None)


class Renormalized:
    """A transform with other channel statistics than its own."""

    def __init__(self, transform: Transform, normalize: Normalizer):
        self.transform, self.normalize = transform, normalize

    def __call__(self, images: Any, seeds: np.ndarray | None) -> Tensor:
        return self.transform(images, seeds)


class TransformRegistry(Registry[Callable[..., Transform]]):
    """Transforms by name; of those that take a `strength` also as NAME:STRENGTH, a number from 0 to 1."""

    def _find(self, name: object) -> Any:
        found = super()._find(name)
        if found is not None or not isinstance(name, str) or ":" not in name:
            return found
        plain, _, text = name.partition(":")
        entry = super()._find(plain)
        try:
            strength = float(text)
        except ValueError:
            return None
        if entry is None or not 0 <= strength <= 1 or "strength" not in inspect.signature(entry.obj).parameters:
            return None
        return Entry(name, partial(entry.obj, strength=strength), f"{entry.summary}, here {strength:g}", entry.paper)


# Each builds the transform for images of a side and a number of channels, f(image_size, in_chans), or also for what is
# told of their preparation, f(image_size, in_chans, told).
TRANSFORMS = TransformRegistry("transform")


def statistics(in_chans: int, told: Preprocessing = OWN) -> Normalize:
    """Channel statistics of ImageNet, for RGB or grey, unless others are told."""
    return told.normalize(IMAGENET if in_chans == 3 else GREY)
