"""Data sets of the Hugging Face hub, or in its format on disk, through timm's reader: `hfds/USER/NAME`.

    hfds/uoft-cs/cifar10               from the hub, kept under data.root (null: the package's own cache)
    hfds/uoft-cs/cifar100#fine_label   the column of the labels, where there are several
    hfds//data/birds                   a folder of parquet files, or of images in the package's layout

Images are the column `image`, or the only one that holds images; labels are `label`, or the only one of classes.
Nothing of the data set is executed: loading scripts are refused by the package.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from gcp.data.decode import decode_bytes
from gcp.data.images import IndexedSet
from gcp.data.source import DATASETS, Request, Source, require
from gcp.data.split_names import splits_by_name
from gcp.data.splits import Splits
from gcp.errors import DataError, suggest


def create(request: Request) -> Splits:
    """A set of that name; other arguments as in `create_dataset`. `partial` does not apply: counts are not known."""
    require("datasets", request.name)
    path, _, column = request.name.removeprefix("hfds/").partition("#")
    cache = None if request.root is None else str(request.folder)
    try:
        readers = open_splits(request.name, path, cache, column)
    except DataError:
        raise
    except Exception as error:  # its loader raises nearly anything
        raise DataError(f"cannot open data set {request.name!r}: {type(error).__name__}: {error}") from error
    labels = {split: _labels(reader) for split, reader in readers.items()}
    numbers = range(1 + max(int(each.max(initial=-1)) for each in labels.values()))
    classes = _classes(request.name, readers) or tuple(map(str, numbers))
    transform = request.create_transform()
    found = {
        split: IndexedSet(HubImages(reader, f"{split} of {request.name}", request.in_chans), labels[split], transform)
        for split, reader in readers.items()
    }
    return splits_by_name(request.name, found, classes, **request.splitting)


def open_splits(name: str, path: str, cache: str | None, column: str) -> dict[str, Any]:
    """timm's reader of every split. `column`: of the labels, or "" to find it."""
    import datasets
    from timm.data.readers import create_reader

    splits = datasets.get_dataset_split_names(path)
    features = datasets.load_dataset(path, split=splits[0], cache_dir=cache).features
    images = _column(name, features, "image", datasets.Image)
    labels = _column(name, features, "label", datasets.ClassLabel, column)
    return {
        split: create_reader(f"hfds/{path}", root=cache, split=split, input_key=images, target_key=labels)
        for split in splits
    }


class HubImages:
    """The decoded image at an index of a reader; `what` names the split in errors."""

    def __init__(self, reader: Any, what: str, in_chans: int):
        self.reader = reader
        self.what = what
        self.in_chans = in_chans

    def __call__(self, index: int) -> Tensor:
        name = f"{index} in {self.what}"
        try:
            file = self.reader[index][0]
            with file:
                data = file.read()
        except (OSError, AssertionError) as error:
            raise DataError(f"cannot read the image {name}: {type(error).__name__}: {error}") from error
        return decode_bytes(data, name, self.in_chans)


def _column(name: str, features: Mapping[str, Any], usual: str, kind: type, given: str = "") -> str:
    fits = [key for key, feature in features.items() if isinstance(feature, kind)]
    if given:
        if given in features:
            return given
        raise DataError(
            f"{name!r} has no column {given!r}.{suggest(given, features)} Its columns: {', '.join(features)}."
        )
    if usual in features:
        return usual
    if len(fits) == 1:
        return fits[0]
    several = f"several columns of {kind.__name__}: {', '.join(fits)}" if fits else f"no column {usual!r}"
    hint = f" Choose one: data.name='{name}#{(fits or list(features))[0]}'." if usual == "label" else ""
    raise DataError(f"{name!r} has {several}. Its columns: {', '.join(features)}.{hint}")


def _labels(reader: Any) -> np.ndarray:
    """The column of labels, -1 where a label is missing; no image is read."""
    column = reader.dataset.select_columns([reader.label_key])[:][reader.label_key]
    labels = np.array([-1 if label is None else label for label in column])
    if labels.dtype.kind not in "iu":
        raise DataError(
            f"the column {reader.label_key!r} holds {labels.dtype.name} values; allowed: classes or whole numbers. "
            f"Convert it with class_encode_column({reader.label_key!r}) of the package datasets."
        )
    return labels


def _classes(name: str, readers: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the classes, the same in every split; () where they have none."""
    named = {split: tuple(reader.class_to_idx) for split, reader in readers.items()}
    if len(set(named.values())) > 1:
        raise DataError(f"the splits of {name!r} have different classes: {', '.join(named)}.")
    return next(iter(named.values()))


DATASETS.add(
    "hfds/*",
    Source(create, needs_root=None),
    summary="hfds/USER/NAME[#LABELS]: a data set of the Hugging Face hub, or a folder in its format (hfds//FOLDER)",
)
