"""CIFAR-10 and CIFAR-100: 50,000 images to train and 10,000 to test, 32x32, in the files that torchvision downloads.

The files are pickled. torchvision unpickles them after comparing their MD5 sums with the published ones.
"""

import functools
from pathlib import Path
from typing import Any

import torch

from gcp.data.annotations.layout import existing_folder, listed, subfolders, unpack
from gcp.data.images import TensorSet
from gcp.data.source import DATASETS, Request, Source
from gcp.data.splits import Splits, hold_out, reduce_train
from gcp.data.transforms import Transform
from gcp.errors import DataError


def create(variant: str, request: Request) -> Splits:
    """CIFAR10 or CIFAR100, the name of torchvision's class, in memory; arguments as in `create_dataset`."""
    place = _find(variant, existing_folder(request.folder))
    transform = request.create_transform("pad_crop")
    (pool, classes), (test, _) = (_read(variant, place, train, transform) for train in (True, False))
    train, val, held_out = hold_out(pool, request.val_fraction, request.split_seed, classes)
    train, kept = reduce_train(train, request.per_class, request.split_seed, classes)
    rule = f"{variant} by torchvision. Test: the test batch ({len(test)}); validation: {held_out}; training: {kept}."
    return Splits(train, val, test, classes, rule)


def _find(variant: str, root: Path) -> Path:
    """The folder that holds torchvision's: `root`, the one above, or one in it."""
    base = _class(variant).base_folder
    inside = subfolders(root)
    places = [root, root.parent] if root.name == base else [root, *(root / name for name in inside)]
    for place in places:
        if (place / base).is_dir():
            return place
    raise DataError(
        f"{variant} is not in {root}: looked for the folder {base!r} there and in its folders; it holds "
        f"{listed(inside, 'no folder')}.{unpack(root)} {_download(variant, root)}"
    )


def _read(variant: str, place: Path, train: bool, transform: Transform) -> tuple[TensorSet, tuple[str, ...]]:
    try:
        found = _class(variant)(str(place), train=train)
    except RuntimeError as error:
        folder = place / _class(variant).base_folder
        raise DataError(
            f"the files in {folder} are not all there, or not the published ones by their MD5 sums. "
            f"{_download(variant, place)}"
        ) from error
    images = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
    return TensorSet(images, found.targets, transform), tuple(found.classes)


def _class(variant: str) -> Any:
    import torchvision.datasets

    return getattr(torchvision.datasets, variant)


def _download(variant: str, root: Path) -> str:
    code = f"from torchvision.datasets import {variant}; {variant}({str(root)!r}, download=True)"
    return f'Get them with: python -c "{code}"'


for _variant, _number in (("CIFAR10", 10), ("CIFAR100", 100)):
    DATASETS.add(
        _variant.lower(),
        Source(
            functools.partial(create, _variant),
            needs_root=True,
            image_size=32,
            min_size=8,
            channels=(3,),
            classes=_number,
            counts={"train": 50000, "test": 10000},
            default="pad_crop",
        ),
        summary=f"CIFAR-{_number}: {_number} classes; 50,000 images to train, 10,000 to test, 32x32, in memory",
        paper="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images",
    )
