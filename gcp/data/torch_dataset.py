"""Splits out of any map-style PyTorch data set: `from_torch(train, classes, transform)`.

An item is `(image, label)`: the image as it is stored, without augmentation, and a whole number. What is random in a
run (order, augmentation, what is held out) is a function of its seed, so that batches do not depend on the number of
workers and a run goes on after a stop to the same bits; a data set that draws random numbers itself would break that,
and is refused.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, IterableDataset, Subset, TensorDataset

from gcp.data.decode import decode_pillow
from gcp.data.images import IndexedSet
from gcp.data.seeds import ITEM, TEST, hashed, preserved, reseed
from gcp.data.split_names import splits_by_name
from gcp.data.splits import Splits, check_fraction, stratified_split
from gcp.data.transforms import OWN, Preprocessing, Transform, create_transform
from gcp.errors import DataError, GCPError, OptionError

DEFAULT = "random_resized_crop"  # the transform
HANDFUL = 4  # images of each split that are read beforehand, and that its fingerprint tells apart
_IMAGES = (
    "allowed: a Pillow image, a uint8 tensor (C, H, W) or (H, W), or a uint8 array (H, W, C) or (H, W), with C of 1, 3 "
    "or 4. Leave ToTensor and Normalize out of the data set: the transform of the run prepares the images"
)


def from_torch(
    train: Any,
    classes: Sequence[str] | None = None,
    transform: str | Transform = "default",
    *,
    val: Any = None,
    test: Any = None,
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    per_class: int | None = None,
    image_size: int = 224,
    in_chans: int = 3,
    told: Preprocessing = OWN,
) -> Splits:
    """The three splits of map-style data sets whose items are `(image, label)`.

    Args:
        train: anything with `len(train)` and `train[index]`. Images are Pillow images of 8 bits a channel, uint8
            tensors (C, H, W) or uint8 arrays (H, W, C), of any size; labels are whole numbers from 0. The labels of
            all items are needed beforehand: an attribute `targets` has them, else every item is read once.
        classes: their names by label; None for `train.classes`, or for numbers where there are none.
        transform: "default" (random_resized_crop), "none" for its plain part, another name of
            `gcp.data.transforms`, or a Transform of your own, such as `PerImage(train, plain, normalize)`.
        val: the images to select on; without them, they are held out of `train`. Without `test` these are the test
            split, as in ImageNet, since nothing is selected on what is scored.
        test: the images to score; without any other split, they are held out of `train`.
        val_fraction: share of `train` held out for validation, class by class; 0 for none.
        test_fraction: share of `train` held out as the test split, class by class, the same for every `split_seed`.
        split_seed: chooses what is held out for validation, and the images of `per_class`.
        per_class: training images of each class, None for all.
        image_size: side of the square images in pixels.
        in_chans: 1 for grey, 3 for RGB; images are converted.
        told: mean, deviation, interpolation and crop, where they are not those of the transform; one of your own keeps
            its own.

    Raises:
        DataError: items of another kind, labels that are no class, or a data set that gives another image each time.
        OptionError: an argument out of range.

    Examples:
        >>> import gcp, torch
        >>> pixels = torch.randint(0, 256, (60, 3, 8, 8), dtype=torch.uint8)
        >>> pairs = torch.utils.data.TensorDataset(pixels, torch.arange(60) % 3)
        >>> splits = gcp.data.from_torch(pairs, ["a", "b", "c"], "pad_crop", image_size=8)
        >>> len(splits.train), len(splits.val), len(splits.test)
        (42, 6, 12)
    """
    check_fraction(val_fraction)
    check_fraction(test_fraction, "test_fraction")
    prepare = _transform(transform, image_size, in_chans, told)
    given = {name: each for name, each in (("train", train), ("val", val), ("test", test)) if each is not None}
    found = {name: TorchSet(dataset, name, prepare, in_chans) for name, dataset in given.items()}
    largest = max(int(images.labels.max(initial=-1)) for images in found.values())
    names = tuple(map(str, _class_names(train) or range(largest + 1) if classes is None else classes))
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"classes has the name {twice!r} twice; allowed: each once.")
    held_out = ""
    if len(found) == 1:
        pool = found["train"]
        rest, held = stratified_split(pool.labels, test_fraction, 0, TEST)
        if not len(held):
            raise DataError(
                "there is nothing to score the trained model on: give `test`, or a test_fraction above 0 and at least "
                f"two images of a class; got test_fraction={test_fraction} and {len(pool)} images."
            )
        found = {"train": pool.subset(rest), "test": pool.subset(held)}
        held_out = f" The test split is {test_fraction:g} of the {len(pool):,} images, held out class by class."
    splits = splits_by_name(
        "the PyTorch data set", found, names, val_fraction=val_fraction, split_seed=split_seed, per_class=per_class
    )
    return Splits(splits.train, splits.val, splits.test, names, f"PyTorch data set: {splits.rule}{held_out}")


class TorchSet(IndexedSet):
    """One split: the items of `dataset`, whose images are converted to `in_chans` channels."""

    def __init__(self, dataset: Any, name: str, transform: Transform, in_chans: int):
        sized = hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")
        if not sized or isinstance(dataset, IterableDataset):
            raise DataError(
                f"{name} is {_kind(dataset)}; allowed: a map-style data set, with len(dataset) and dataset[index]. "
                "Of one that can only be iterated, make a list first: list(dataset)."
            )
        labels = _labels(dataset, name)
        super().__init__(Items(dataset, labels, name, in_chans), labels, transform)
        for index in _handful(len(labels)):
            self.pixels.check(index)  # type: ignore[attr-defined]

    def _digest(self) -> Any:
        """Of the labels, and of a handful of images as they are stored."""
        digest = super()._digest()
        for place in _handful(len(self)):
            pixels = self.pixels(int(self.indices[place]))
            digest.update(repr(tuple(pixels.shape)).encode() + pixels.contiguous().numpy().tobytes())
        return digest


class Items:
    """The pixels at an index of a data set, (C, h, w) uint8; `name` is that of the split, for errors."""

    def __init__(self, dataset: Any, labels: np.ndarray, name: str, in_chans: int):
        self.dataset, self.labels, self.name, self.in_chans = dataset, labels, name, in_chans

    def __call__(self, index: int) -> Tensor:
        what = f"{index} of {self.name}"
        image, label = _item(self.dataset, index, self.name)
        if label != self.labels[index]:
            raise DataError(
                f"the label of image {what} is {label}, but was {self.labels[index]} when the data set was opened; "
                "allowed: the same item for an index each time, with a label as in `targets` where it has these."
            )
        return to_pixels(image, what, self.in_chans)

    def check(self, index: int) -> None:
        """Raise DataError unless the item is an image with its label, and the same whenever it is read."""
        first = self(index)
        again, _ = _item(self.dataset, index, self.name, attempt=1)
        if not torch.equal(first, to_pixels(again, f"{index} of {self.name}", self.in_chans)):
            raise DataError(
                f"image {index} of {self.name} is another one each time it is read; allowed: the same. Leave random "
                "augmentation out of the data set and give it as `transform`, by name or as gcp.data.transforms."
                "PerImage(train, plain, normalize), which seeds it for each image."
            )


def to_pixels(image: Any, what: str, in_chans: int) -> Tensor:
    """(C, h, w) uint8 of a Pillow image, a uint8 tensor (C, H, W) or (H, W), or a uint8 array (H, W, C) or (H, W).

    Raises DataError, in which `what` stands for the image.
    """
    from PIL import Image

    if isinstance(image, Image.Image):
        return decode_pillow(image, what, in_chans)
    if not isinstance(image, Tensor | np.ndarray):
        raise DataError(f"image {what} is {_kind(image)}; {_IMAGES}.")
    shape, last = tuple(image.shape), isinstance(image, np.ndarray)  # whose channels are last
    channels = 1 if image.ndim == 2 else shape[-1 if last else 0] if image.ndim == 3 else 0
    if image.dtype not in (torch.uint8, np.dtype(np.uint8)) or channels not in (1, 3, 4) or 0 in shape:
        kind = "an array" if last else "a tensor"
        raise DataError(f"image {what} is {kind} of {image.dtype}, shape {shape}; {_IMAGES}.")
    pixels = image.cpu() if isinstance(image, Tensor) else torch.tensor(image)
    pixels = pixels[None] if image.ndim == 2 else pixels.permute(2, 0, 1) if last else pixels
    if channels == in_chans:
        return pixels.contiguous()
    stored = pixels[0] if channels == 1 else pixels.permute(1, 2, 0)
    return decode_pillow(Image.fromarray(stored.contiguous().numpy()), what, in_chans)


def _item(dataset: Any, index: int, name: str, attempt: int = 0) -> tuple[Any, int]:
    """Image and label; the random state is a function of index and attempt meanwhile, and is then put back."""
    with preserved():
        reseed(hashed(ITEM, index, attempt)[0])
        try:
            item = dataset[index]
        except GCPError:
            raise
        except Exception as error:  # the code of somebody else
            raise DataError(f"cannot read image {index} of {name}: {type(error).__name__}: {error}") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise DataError(f"item {index} of {name} is {_kind(item)}; allowed: a pair (image, label).")
    label = item[1]
    if isinstance(label, Tensor | np.ndarray) and label.ndim == 0:
        label = label.item()
    if isinstance(label, bool | np.bool_) or not isinstance(label, int | np.integer):
        raise DataError(
            f"the label of image {index} of {name} is {label!r} ({type(label).__name__}); allowed: a whole number, the "
            "place of its class among `classes`."
        )
    return item[0], int(label)


def _labels(dataset: Any, name: str) -> np.ndarray:
    """The labels of all items, (N,) int64: from what PyTorch and torchvision keep, else by reading each item."""
    known = _known_labels(dataset)
    if known is None or len(known) != len(dataset):
        known = np.array([_item(dataset, index, name)[1] for index in range(len(dataset))], dtype=np.int64)
    return known


def _known_labels(dataset: Any) -> np.ndarray | None:
    if isinstance(dataset, Subset):
        known = _known_labels(dataset.dataset)
        return None if known is None else known[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(dataset, ConcatDataset):
        parts = [_known_labels(part) for part in dataset.datasets]
        return None if any(part is None for part in parts) else np.concatenate(parts)  # type: ignore[arg-type]
    if isinstance(dataset, TensorDataset):
        targets: Any = dataset.tensors[1] if len(dataset.tensors) == 2 else None
    elif getattr(dataset, "target_transform", None) is not None:
        return None
    else:
        targets = getattr(dataset, "targets", None)
    try:
        labels = np.asarray(targets)
    except Exception:  # whatever an attribute of that name may be
        return None
    return labels.astype(np.int64) if labels.ndim == 1 and labels.dtype.kind in "iu" else None


def _class_names(dataset: Any) -> list[str] | None:
    while isinstance(dataset, Subset):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    named = isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(name, str) for name in names)
    return list(names) if named else None  # type: ignore[arg-type]


def _transform(transform: Any, image_size: int, in_chans: int, told: Preprocessing) -> Transform:
    if isinstance(transform, str):
        return create_transform(transform, DEFAULT, image_size, in_chans, told)
    if callable(transform) and hasattr(transform, "normalize"):
        return transform
    raise OptionError(
        f"transform is {_kind(transform)}; allowed: a name of gcp.data.transforms, or a Transform. Functions of one "
        "image (C, h, w) uint8 become one by gcp.data.transforms.PerImage(train, plain, normalize)."
    )


def _handful(count: int) -> list[int]:
    return sorted(set(np.linspace(0, count - 1, min(HANDFUL, count)).round().astype(int).tolist()))


def _kind(value: Any) -> str:
    """What a value is, in a few words."""
    if isinstance(value, tuple | list | Mapping):
        return f"a {type(value).__name__} of {len(value)}"
    return f"of type {type(value).__name__}"
