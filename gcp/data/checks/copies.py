"""Which files of a folder are the same picture, so that a split can keep them on one side.

Exact copies have the same bytes. Near copies were encoded again, resized or retouched a little. An image is described
by the directions of its gradients at two resolutions (`near_duplicates`), g9 of the 9x9 grey thumbnail and g17 of the
17x17 one, and two are near copies where, in one of the eight orientations,

    g9 . g9' >= 0.95    and    g17 . g17' >= 0.88

Of 200 photographs of textures encoded again in JPEG quality 20, or resized to half, 95 of 100 pass; of 179,700 pairs of
different ones none does, of as many of typefaces none, of emoji 10, many of them drawings that vendors took over. It
is stricter than what `gcp check --verify` shows to the eye, since a false pair here moves images: of small pictures of
one kind of thing (28 pixels, clothes) 1 pair of 5,000 passes. Where such pairs chain up to groups larger than LARGEST
of the images, near copies are not used.

The descriptors are rounded to whole numbers, so that their products are exact, and a split is the same everywhere. The
groups are kept in the cache of this user, by names, sizes and times of the files.
"""

import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b, sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gcp.data.checks.near_duplicates import PLAIN, differences, direction, orientations, thumbnail
from gcp.data.checks.verify import in_processes
from gcp.data.decode import from_pillow, read_regular
from gcp.errors import counted

log = logging.getLogger("gcp")

SIDES, LIMITS = (9, 17), (0.95, 0.88)
SCALE = 1000  # of the rounded descriptors: products up to 1e6, exact in float32
DRAFT = 64  # pixels: a JPEG is decoded at the least size not below it
CHUNK = 512
MOST = 50_000  # files among which near copies are looked for; the time goes with the square
LARGEST = 0.1  # share of the images
MANY = 1_000  # files for which the time is worth a message
VERSION = 1  # of what is kept in the cache


class Copies(NamedTuple):
    """The group of each file, (N,) int64: the place of the first file that it is a copy of, its own where of none.

    `exact`, `near`: how many files are copies of an earlier one. `refused`: why near copies were not used, or "".
    """

    groups: np.ndarray
    exact: int
    near: int
    refused: str = ""


def find_copies(paths: Sequence[str], near: bool = True) -> Copies:
    """The copies among files; those that cannot be read are copies of none. `near`: near copies too."""
    kept = _cache_file(paths, near)
    with suppress(OSError, ValueError, LookupError):
        saved = np.load(kept)
        return Copies(saved["groups"], int(saved["exact"]), int(saved["near"]), str(saved["refused"]))
    if len(paths) >= MANY:
        log.info("looking for copies among %s, once; data.copies=ignore leaves that out", counted(len(paths), "image"))
    found = _find(paths, near)
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        temporary = kept.with_suffix(f".{os.getpid()}.npz")
        np.savez(temporary, **found._asdict())
        os.replace(temporary, kept)
    return found


def _find(paths: Sequence[str], near: bool) -> Copies:
    refused = f"not looked for among more than {MOST:,} images" if near and len(paths) > MOST else ""
    described = list(in_processes(_described if near and not refused else _digest, paths))
    first: dict[bytes, int] = {}
    groups = np.array(
        [first.setdefault(each[0], place) if each[0] else place for place, each in enumerate(described)], dtype=np.int64
    )
    exact = int((groups != np.arange(len(paths))).sum())
    if not near or refused:
        return Copies(groups, exact, 0, refused)
    merged = _join(groups, _near_pairs(described, groups))
    counts = np.bincount(merged, minlength=1)
    if counts.max(initial=0) > max(LARGEST * len(paths), 10) and counts.max() > np.bincount(groups).max(initial=0):
        refused = f"not used, since {counts.max():,} of the images look alike at the resolution that tells them"
        return Copies(groups, exact, 0, refused)
    return Copies(merged, exact, int((merged != np.arange(len(paths))).sum()) - exact)


def _digest(path: str) -> tuple[bytes, None]:
    try:
        return blake2b(read_regular(path), digest_size=16).digest(), None
    except (OSError, ValueError):
        return b"", None


def _described(path: str) -> tuple[bytes, tuple[np.ndarray, np.ndarray] | None]:
    """A hash of the bytes, and for both sides the descriptors (8, D) int16 of all orientations; None of an image that
    cannot be decoded or shows nothing.
    """
    from PIL import Image

    digest, _ = _digest(path)
    try:
        with Image.open(BytesIO(read_regular(path))) as picture:
            picture.draft("L", (DRAFT, DRAFT))  # of a JPEG; it takes a tenth of the time
            grey = Image.fromarray(from_pillow(picture, path, 1)[0].numpy())
            thumbnails = [thumbnail(grey, side) for side in SIDES]
    except Exception:  # decoders of broken files raise nearly anything
        return digest, None
    if np.abs(differences(thumbnails[0])).mean() < PLAIN:
        return digest, None
    one, other = (
        np.rint(SCALE * np.stack([direction(each) for each in orientations(small)])).astype(np.int16)
        for small in thumbnails
    )
    return digest, (one, other)


def _near_pairs(described: list, groups: np.ndarray) -> list[tuple[int, int]]:
    """The pairs of near copies, of each group of exact copies its first file."""
    places = [
        place for place, each in enumerate(described) if each[1] is not None and groups[place] == place
    ]  # fmt: skip
    if len(places) < 2:
        return []
    coarse = np.stack([described[place][1][0] for place in places])
    upright = coarse[:, 0].astype(np.float32).T
    pairs = []
    for start in range(0, len(places), CHUNK):
        some = coarse[start : start + CHUNK].astype(np.float32)
        for orientation in range(some.shape[1]):
            products = some[:, orientation] @ upright
            for row, column in zip(*np.nonzero(products >= LIMITS[0] * SCALE**2), strict=True):
                one, other = places[start + row], places[column]
                if one < other:
                    fine = described[one][1][1][orientation].astype(np.int64) @ described[other][1][1][0]
                    if fine >= LIMITS[1] * SCALE**2:
                        pairs.append((one, other))
    return pairs


def _join(groups: np.ndarray, pairs: list[tuple[int, int]]) -> np.ndarray:
    """The groups after those of each pair have become one."""
    above = groups.copy()

    def root(place: int) -> int:
        while above[place] != place:
            above[place] = above[above[place]]
            place = int(above[place])
        return place

    for one, other in pairs:
        first, second = sorted((root(one), root(other)))
        above[second] = first
    return np.array([root(place) for place in range(len(above))], dtype=np.int64)


def _cache_file(paths: Sequence[str], near: bool) -> Path:
    """Where the groups of these files are kept; another file where one of them has changed."""
    folder = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    digest = sha256(f"{VERSION} {near}".encode())
    for path in paths:
        try:
            found = os.stat(path)
            digest.update(os.fsencode(path) + f"\0{found.st_size} {found.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(os.fsencode(path) + b"\0")
    return Path(folder, "gcp", "copies", f"{digest.hexdigest()[:24]}.npz")
