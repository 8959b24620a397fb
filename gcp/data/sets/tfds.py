"""TensorFlow data sets through timm's reader: `tfds/NAME`, prepared below data.root (null: ~/tensorflow_datasets).

A shard is a shard of the split. TensorFlow decodes in threads of its own, so one process at most reads.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

from gcp.data.decode import from_pillow
from gcp.data.source import DATASETS, Request, Source, require
from gcp.data.split_names import splits_by_name
from gcp.data.splits import Splits, check_per_class
from gcp.data.stream import Sample, Shard, StreamSet
from gcp.errors import DataError

# Decoded images, about five times as large as encoded ones, in each of eight shard streams.
BUFFER = 200


def create(request: Request) -> Splits:
    """A set of that name; arguments as in `create_dataset`. `partial` does not apply: counts are not known."""
    check_per_class(request.name, request.per_class)
    for package in ("tensorflow", "tensorflow_datasets"):
        require(package, request.name)
    folder = None if request.root is None else str(request.folder)
    try:
        reader = open_reader(request.name, folder, "train", request.in_chans)
    except Exception as error:  # its builders raise nearly anything
        raise DataError(f"cannot open data set {request.name!r}: {type(error).__name__}: {error}") from error
    classes = tuple(reader.class_to_idx)
    if not classes:
        raise DataError(
            f"{request.name!r} has no classes in {reader.target_key!r}. Choose the labels: "
            f"data.name='{request.name}#LABELS'."
        )
    transform = request.create_transform()
    found = {
        split: StreamSet(
            [Shard(f"{split}[{n}shard:{n + 1}shard]", count) for n, count in enumerate(info.shard_lengths)],
            Records(request.name, folder, request.in_chans),
            partial(_pixels, in_chans=request.in_chans),
            len(classes),
            transform,
            BUFFER,
            most_workers=1,
        )
        for split, info in reader.builder.info.splits.items()
    }
    return splits_by_name(request.name, found, classes, **request.splitting)


def open_reader(name: str, folder: str | None, split: str, in_chans: int) -> Any:
    """timm's reader of a split, or of a part of one, without shuffling."""
    from timm.data.readers import create_reader

    name, _, labels = name.partition("#")
    mode = "L" if in_chans == 1 else "RGB"
    reader = create_reader(name, root=folder, split=split, target_key=labels or None, input_img_mode=mode)
    reader.dist_num_replicas = 1  # it would deal its samples to the processes of a run, but a shard is dealt whole
    return reader


class Records:
    """Reads the samples of a shard."""

    def __init__(self, name: str, folder: str | None, in_chans: int):
        self.name = name
        self.folder = folder
        self.in_chans = in_chans

    def __call__(self, shard: Shard) -> Iterator[Sample]:
        try:
            for number, (image, label) in enumerate(open_reader(self.name, self.folder, shard.name, self.in_chans)):
                yield Sample(f"{number} in {shard.name} of {self.name}", image, int(label))
        except DataError:
            raise
        except Exception as error:  # TensorFlow has errors of its own
            raise DataError(f"cannot read {shard.name} of {self.name}: {type(error).__name__}: {error}") from error


def _pixels(sample: Sample, in_chans: int) -> Tensor:
    """Of a sample whose image TensorFlow has decoded."""
    return from_pillow(sample.image, sample.name, in_chans)


DATASETS.add(
    "tfds/*",
    Source(create, needs_root=None),
    summary="tfds/NAME[#LABELS]: a data set prepared by tensorflow-datasets; a stream",
)
