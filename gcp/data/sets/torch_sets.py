"""torchvision's data sets through timm's factory: `torch/NAME`."""

from typing import Any

import numpy as np
from torch import Tensor

from gcp.data.decode import from_pillow
from gcp.data.images import IndexedSet
from gcp.data.source import DATASETS, Request, Source
from gcp.data.split_names import splits_by_name
from gcp.data.splits import Splits
from gcp.errors import DataError, UnknownNameError

# The splits that a set has, under the names that timm's factory takes.
NAMES = {
    "cifar10": ("train", "test"),
    "cifar100": ("train", "test"),
    "mnist": ("train", "test"),
    "fashion_mnist": ("train", "test"),
    "kmnist": ("train", "test"),
    "qmnist": ("train", "test"),
    "imagenet": ("train", "validation"),
    "places365": ("train", "validation"),
    "inaturalist": ("train", "validation"),
}


def create(request: Request) -> Splits:
    """A set of that name; other arguments as in `create_dataset`. `partial` does not apply: torchvision checks."""
    short = request.name.removeprefix("torch/")
    if short not in NAMES:
        raise UnknownNameError("torchvision data set", short, NAMES)
    folder = str(request.folder)
    sets = {split: _open(request.name, folder, split) for split in NAMES[short]}
    transform = request.create_transform()
    found = {
        split: IndexedSet(
            TorchvisionImages(images, f"{split} of {request.name}", request.in_chans), _labels(images), transform
        )
        for split, images in sets.items()
    }
    classes = _classes(sets["train"], int(found["train"].labels.max()) + 1)
    return splits_by_name(f"{request.name} in {folder}", found, classes, **request.splitting)


class TorchvisionImages:
    """The image at an index of a torchvision data set; `what` names the split in errors."""

    def __init__(self, images: Any, what: str, in_chans: int):
        self.images = images
        self.what = what
        self.in_chans = in_chans

    def __call__(self, index: int) -> Tensor:
        try:
            picture = self.images[index][0]
        except OSError as error:
            raise DataError(f"cannot read the image {index} in {self.what}: {error}") from error
        return from_pillow(picture, f"{index} in {self.what}", self.in_chans)


def _open(name: str, folder: str, split: str) -> Any:
    from timm.data import create_dataset

    try:
        return create_dataset(name, folder, split=split)
    except (OSError, RuntimeError) as error:
        reason = str(error).removesuffix(" You can use download=True to download it")
        call = f"timm.data.create_dataset({name!r}, {folder!r}, split={split!r}, download=True)"
        raise DataError(
            f"cannot open the split {split!r} of {name!r} in {folder}: {reason} If it can be downloaded, do so by\n"
            f'  python -c "import timm.data; {call}"'
        ) from error


def _labels(images: Any) -> np.ndarray:
    """One label per image; a row of QMNIST begins with it, iNaturalist has it beside the name of the file."""
    targets = images.targets if hasattr(images, "targets") else [label for label, _ in images.index]
    labels = np.asarray(targets)
    return labels if labels.ndim == 1 else labels[:, 0]


def _classes(images: Any, count: int) -> tuple[str, ...]:
    """Names of the classes: of several synonyms the first; numbers where there are none."""
    names = getattr(images, "classes", None) or getattr(images, "all_categories", None) or range(count)
    return tuple(name[0] if isinstance(name, tuple) else str(name) for name in names)


DATASETS.add(
    "torch/*",
    Source(create, needs_root=True),
    summary=f"torch/NAME: a data set of torchvision that lies in data.root: {', '.join(NAMES)}",
)
