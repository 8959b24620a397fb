"""Train, val and test out of streams: nothing is known of their images, so whole shards are held out."""

from collections.abc import Mapping

import numpy as np

from gcp.data.imageset import Splits
from gcp.data.named import arrange
from gcp.data.seeds import SPLIT, hashed
from gcp.data.source import Request
from gcp.data.split import NONE
from gcp.data.stream import StreamSet
from gcp.errors import DataError, OptionError, counted


def hold_out_shards(train: StreamSet, fraction: float, seed: int) -> tuple[StreamSet, StreamSet, str]:
    """(train, val, how): whole shards, ranked by a hash of (seed, index), until `fraction` of the images is reached.

    At least one shard is held out and at least one stays; with a fraction of 0 none is, and val is empty. Raises
    DataError for a single shard.
    """
    shards = train.shards
    if fraction == 0:
        return train, train.subset([]), NONE
    if len(shards) < 2:
        raise DataError(
            "no validation images can be held out: the training split is a single shard, and a stream is held out by "
            "whole shards. Write it as several shards, add a validation split, or hold none out by "
            "data.val_fraction=0."
        )
    ranked = np.argsort(hashed(SPLIT, seed, np.arange(len(shards))), kind="stable")
    before = np.cumsum([0] + [shards[index].count for index in ranked])[:-1]
    count = min(max(int((before < fraction * len(train)).sum()), 1), len(shards) - 1)
    val, rest = train.subset(np.sort(ranked[:count])), train.subset(np.sort(ranked[count:]))
    how = f"{count} of its {len(shards)} shards held out whole, not class by class (fraction {fraction:g}, seed {seed})"
    return rest, val, f"{len(val):,} of the {len(train):,} training images, {how}"


def keep_all(train: StreamSet) -> tuple[StreamSet, str]:
    """The training stream, and its description in words."""
    return train, f"{counted(len(train), 'image')} in {counted(len(train.shards), 'shard')}"


def check_per_class(name: str, per_class: int | None) -> None:
    """Raise OptionError for few-shot training on a stream."""
    if per_class is not None:
        raise OptionError(
            f"data.per_class of {name}: got {per_class}; allowed: null. A stream is read in order and its labels are "
            "not known before, so images cannot be chosen class by class."
        )


def stream_splits(where: str, found: Mapping[str, StreamSet], classes: tuple[str, ...], request: Request) -> Splits:
    """Train, val and test out of streams by the names of their splits; see `gcp.data.named`."""
    train, val, test, rule = arrange(
        where, found, lambda train: hold_out_shards(train, request.val_fraction, request.split_seed), keep_all
    )
    return Splits(train, val, test, classes, rule)
