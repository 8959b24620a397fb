"""Labelled images that tell which order of the triangle a file was trained on."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from gcp.data import DATASETS, ImageSet, Loader, create_dataset
from gcp.data.annotations.layout import scan
from gcp.data.images import FileSet
from gcp.data.stream import StreamSet
from gcp.data.transforms import create_transform
from gcp.engine.order import score_orders
from gcp.errors import DataError, GCPError, suggest

if TYPE_CHECKING:
    from gcp.models import Classifier


def labelled(words: list[str], image_size: int, in_chans: int) -> tuple[ImageSet, tuple[str, ...]]:
    """Images and class names: of NAME ROOT the test split of a data set, of FOLDER the images of FOLDER/CLASS."""
    if len(words) == 1 and words[0] not in DATASETS:
        folder = Path(words[0]).expanduser()
        if not folder.is_dir():
            raise DataError(f"no folder {folder} of labelled images.{suggest(words[0], DATASETS)}")
        by_class = scan(folder)
        paths = [path for files in by_class.values() for path in files]
        labels = [label for label, files in enumerate(by_class.values()) for _ in files]
        transform = create_transform("none", "random_resized_crop", image_size, in_chans)
        return FileSet(paths, labels, transform, in_chans), tuple(by_class)
    name, root = (*words, None)[:2]
    splits = create_dataset(
        str(name), root, image_size=image_size, in_chans=in_chans, transform="none", partial=True
    )  # a part of the images tells as much
    if isinstance(splits.test, StreamSet):
        raise DataError(f"{name} is a stream, of which no images can be picked; give FOLDER with one folder per class")
    return splits.images("test"), splits.classes


def check_classes(classes: tuple[str, ...], model: "Classifier") -> None:
    """Raise DataError where the images have another number of classes than the file."""
    if len(classes) != model.num_classes:
        raise DataError(f"the images have {len(classes)} classes, the file {model.num_classes}: another data set")


def choose_order(model: "Classifier", images: ImageSet, most: int, batch_size: int) -> str:
    """Score a model, read as upper, in both orders, on at most `most` images; print the scores and choose.

    Raises:
        GCPError: the images do not tell.
    """
    if len(images) > most:  # spread over all classes, which lie one after the other
        images = images.subset(np.linspace(0, len(images) - 1, most).astype(np.int64))
    scores = score_orders(model, Loader(images, batch_size, train=False), torch.device("cpu"))
    told = f"{scores.upper} of {scores.count} images right as upper, {scores.lower} as lower"
    if scores.order is None:
        raise GCPError(
            f"the images do not tell the order: {told}. Give more (--images), the size that the file was trained with "
            "(--image-size), its own classes, or choose by --order upper or lower."
        )
    print(f"order       {scores.order}: {told}")
    return scores.order
