"""WebDataset shards, `wds/NAME` with data.root: tar files in which the files of a sample stand together.

    0001.jpg 0001.cls 0002.jpg 0002.cls ...     the class as a number in NAME.cls
    wds/NAME#label                              ... or as the field `label` of NAME.json

data.root is a folder or an address (https:, gs:, hf:). It holds `_info.json`, in the layout of timm's reader with
the classes beside it; `gcp webdataset-info` writes it:

    {"classes": ["cat", "dog"],
     "splits": {"train": {"filenames": ["train-0000.tar", ...], "shard_lengths": [1000, ...]}, "test": {...}}}

The reader of timm itself is not used: to give every worker the same number of samples it repeats some and leaves
others out, and it passes over images that it cannot read.
"""

import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from gcp.data.decode import EXTENSIONS, decode_bytes
from gcp.data.source import DATASETS, Request, Source, require
from gcp.data.split_names import splits_by_name
from gcp.data.splits import Splits, check_per_class
from gcp.data.stream import Sample, Shard, StreamSet
from gcp.errors import DataError

INFO = "_info.json"
MOST = 10**9  # images in a shard
ADDRESS = re.compile(r"(https?|gs|hf)://")  # webdataset would run what follows pipe:
# No pipe: and nothing that a shell could read: names of shards come from a file that somebody else has written.
PLAIN = re.compile(r"(?!-)[\w./ +=@,-]+|https?://[\w./+=@,%~-]+")


def create(request: Request) -> Splits:
    """The shards in `root`; other arguments as in `create_dataset`. `partial` does not apply: counts are not known."""
    check_per_class(request.name, request.per_class)
    require("webdataset", request.name)
    place = str(request.root) if ADDRESS.match(str(request.root)) else str(request.folder.absolute())
    classes, splits = read_info(place)
    transform = request.create_transform()
    read = TarReader(place, request.name.partition("#")[2])
    decode = partial(_pixels, in_chans=request.in_chans)
    found = {split: StreamSet(shards, read, decode, len(classes), transform) for split, shards in splits.items()}
    return splits_by_name(f"{place}/{INFO}", found, classes, **request.splitting)


def read_info(place: str) -> tuple[tuple[str, ...], dict[str, list[Shard]]]:
    """The classes, and the shards of each split, by the info file in a folder or at an address.

    Raises DataError where it is missing, or says something else than it should.
    """
    from webdataset.gopen import gopen

    path = f"{place}/{INFO}"
    command = f"gcp webdataset-info {shlex.quote(place)} train='train-*.tar' test='test-*.tar'"
    write = f"Write one where the shards lie, with\n  {command}"
    try:
        with gopen(path) as file:
            info = json.loads(file.read())
    except Exception as error:  # whatever opens an address raises nearly anything
        raise DataError(f"cannot read {path}, which tells the shards and their lengths: {error}. {write}") from error
    try:
        if isinstance(info["classes"], str):
            raise TypeError(f"'classes' is {info['classes']!r}, not a list")
        classes = tuple(map(str, info["classes"]))
        splits = {str(name): _shards(path, split) for name, split in info["splits"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} must have 'classes', and 'splits' with 'filenames' and 'shard_lengths' of each; "
            f"{type(error).__name__}: {error}. {write}"
        ) from error
    check_names(path, classes)
    _check_disjoint(place, splits)
    return classes, splits


def check_names(where: str, classes: Sequence[str]) -> None:
    """Raise DataError for two classes of one name."""
    if twice := [name for name, count in Counter(classes).items() if count > 1]:
        first, second = [number for number, name in enumerate(classes) if name == twice[0]][:2]
        raise DataError(f"{where} gives the name {twice[0]!r} to the classes {first} and {second}; allowed: each once.")


def _shards(path: str, split: dict[str, Any]) -> list[Shard]:
    names, lengths = split["filenames"], split["shard_lengths"]
    if strange := [name for name in names if not PLAIN.fullmatch(name) or ".." in name]:
        raise DataError(f"{path} names the shard {strange[0]!r}; allowed: letters, digits, space and . / _ - + = @ ,")
    if wrong := [n for n in lengths if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST]:
        raise DataError(f"{path} has the shard length {wrong[0]!r}; allowed: whole numbers from 1 to {MOST:,}.")
    shards = [Shard(name, count) for name, count in zip(names, lengths, strict=True)]
    if not shards:
        raise DataError(f"{path} has a split without shards.")
    return shards


def _check_disjoint(place: str, splits: dict[str, list[Shard]]) -> None:
    """Raise DataError where a shard is listed twice, also by another name through links."""
    seen: dict[str, str] = {}
    for split, shards in splits.items():
        for shard in shards:
            file = os.path.realpath(os.path.join(place, shard.name))
            if file in seen:
                raise DataError(f"{place}/{INFO} lists the shard {shard.name!r} of '{split}' twice: {seen[file]} too.")
            seen[file] = f"{shard.name!r} of '{split}'"


class TarReader:
    """Reads the samples of a shard below `place`. `field`: of the json file that is the label, or "" for .cls."""

    def __init__(self, place: str, field: str):
        self.place = place
        self.field = field

    def __call__(self, shard: Shard) -> Iterator[Sample]:
        from webdataset.tariterators import tarfile_samples

        address = shard.name if ADDRESS.match(shard.name) else f"{self.place}/{shard.name}"
        if os.path.exists(address) and not os.path.isfile(address):
            raise DataError(f"cannot read the shard {address}: it is no file.")
        try:
            for files in tarfile_samples(iter([{"url": address}])):
                yield self._sample(files, f"{files['__key__']} in {address}")
        except DataError:
            raise
        except Exception as error:  # whatever opens the address raises nearly anything
            reason = next(iter(error.args), "")  # the others are objects that webdataset has added
            raise DataError(f"cannot read the shard {address}: {type(error).__name__}: {reason}") from error

    def _sample(self, files: dict[str, Any], name: str) -> Sample:
        images = [key for key in files if f".{key}" in EXTENSIONS]
        if len(images) != 1:
            given = [key for key in files if not key.startswith("__")]
            dotted = next((key for key in given if key.endswith(EXTENSIONS)), None)
            why = (
                f" The name of a sample ends at its first dot, so that {dotted!r} counts as the kind of file: write "
                "the shards with names without dots."
                if dotted and not images
                else ""
            )
            raise DataError(
                f"{name} has {len(images)} images, it holds {', '.join(given)}; allowed: one, as "
                f"{' '.join(EXTENSIONS)}.{why}"
            )
        return Sample(name, files[images[0]], self._label(files, name))

    def _label(self, files: dict[str, Any], name: str) -> int:
        place = f"field {self.field!r} of .json" if self.field else ".cls"
        got = None
        try:
            got = json.loads(files["json"])[self.field] if self.field else files["cls"].decode()
            return int(got)
        except (KeyError, TypeError) as error:
            given = ", ".join(key for key in files if not key.startswith("__"))
            raise DataError(f"{name} has no class, a number, in {place}; it has {given}.") from error
        except ValueError as error:
            raise DataError(
                f"{name} has {str(got)[:40]!r} in {place}; allowed: the number of its class, from 0. Words are "
                f"given as the 'classes' of {INFO}, in the order of the numbers."
            ) from error


def _pixels(sample: Sample, in_chans: int) -> Tensor:
    """Of the stored bytes of a sample."""
    return decode_bytes(sample.image, sample.name, in_chans)


DATASETS.add(
    "wds/*",
    Source(create, needs_root=True),
    summary="wds/NAME[#FIELD]: WebDataset shards in data.root, a folder or an address, with _info.json; a stream",
)
