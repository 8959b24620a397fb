"""Test and validation images out of a pool of files in class folders, copies kept on one side.

A group of copies goes to one side as a whole. The groups of a class are ranked by a hash of (seed, first image), as
`stratified_split` ranks images, and with groups of one image each the split is the same as there.
"""

from typing import TYPE_CHECKING

import numpy as np

from gcp.data.annotations.layout import listed
from gcp.data.annotations.listing import Files, Listing
from gcp.data.seeds import SPLIT, TEST, hashed
from gcp.errors import DataError, counted

if TYPE_CHECKING:
    from gcp.data.source import Request


def grouped_split(
    labels: np.ndarray, groups: np.ndarray, fraction: float, seed: int, key: int
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (kept, held out), int64, ascending: of each class about `fraction` of the images, whole groups.

    labels: (N,). groups: (N,), any numbers. A group has the class of its first image. Of a class with two groups or
    more at least one is held out and one stays; of a class with one group none is.
    """
    _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
    sizes, held = np.bincount(group_of), np.zeros(len(first), dtype=bool)
    if fraction > 0:
        for label in np.unique(labels):
            members = np.flatnonzero(labels[first] == label)
            if len(members) > 1:
                ranked = members[np.argsort(hashed(key, seed, first[members]), kind="stable")]
                wanted = max(int(fraction * sizes[members].sum() + 0.5), 1)
                held[_chosen(ranked, sizes, wanted)] = True
    out = held[group_of]
    return np.flatnonzero(~out), np.flatnonzero(out)


def _chosen(ranked: np.ndarray, sizes: np.ndarray, wanted: int) -> list[int]:
    """Groups in their order until `wanted` images are reached, those left out that would exceed it; one at least, and
    not all.
    """
    chosen: list[int] = []
    count = 0
    for group in ranked.tolist():
        if count + sizes[group] <= wanted and len(chosen) < len(ranked) - 1:
            chosen.append(group)
            count += sizes[group]
    return chosen or [int(ranked[np.argmin(sizes[ranked])])]


def split_pool(pool: Listing, request: "Request") -> Listing:
    """The listing with a test split, and a validation split unless data.val_fraction is 0, out of its train split.

    The test images are the same for every `split_seed`, so that what is chosen by validation is scored on the same
    ones. Raises DataError where a class has a single image, or copies of one alone.
    """
    files = pool.splits["train"]
    groups, told = _groups(files, request.copies)
    rest, test = grouped_split(files.labels, groups, request.test_fraction, 0, TEST)
    lacking = sorted(set(range(len(pool.classes))) - set(files.labels[test].tolist()))
    if lacking:
        names = listed([pool.classes[label] for label in lacking])
        raise DataError(
            f"nothing of class {names} can be tested on: a class needs two images that are no copies of each other. "
            "Add images, or split them yourself into the folders 'train' and 'test'."
        )
    splits = {"test": _part(files, test)}
    train, held = grouped_split(files.labels[rest], groups[rest], request.val_fraction, request.split_seed, SPLIT)
    held_out = ""
    if len(held):
        splits["val"] = _part(files, rest[held])
        held_out = f"{counted(len(held), 'image')}, of each class alike (data.val_fraction, seed {request.split_seed})"
    splits["train"] = _part(files, rest[train])
    sentence = (
        f"Test images are {request.test_fraction:.0%} of each class, the same for every data.split_seed "
        "(data.test_fraction)."
    )
    return Listing(pool.layout, pool.classes, splits, (sentence, *told, *pool.notes), pool.faults, held_out)


def _groups(files: Files, copies: str) -> tuple[np.ndarray, list[str]]:
    """The group of each file, and remarks on them."""
    if copies == "ignore":
        return np.arange(len(files)), ["Copies were not looked for."]
    from gcp.data.checks.copies import find_copies

    found = find_copies(files.paths, copies == "near")
    told = [f"Near copies were {found.refused}."] if found.refused else []
    if found.exact or found.near:
        told.append(
            f"Copies of other images, kept on one side with them: {found.exact:,} exact, {found.near:,} near "
            "(data.copies)."
        )
        torn = {group for group, label in zip(found.groups.tolist(), files.labels.tolist(), strict=True)
                if label != files.labels[group]}  # fmt: skip
        if torn:
            path = files.paths[min(torn)]
            told.append(f"{counted(len(torn), 'image')} with copies in another class, the first: {path}.")
    return found.groups, told


def _part(files: Files, places: np.ndarray) -> Files:
    return Files(tuple(files.paths[place] for place in places), files.labels[places])
