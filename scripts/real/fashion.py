"""Fashion-MNIST as folders of images: all of it, or a few images a class.

    python scripts/real/fashion.py --out data/fashion                      # 55,000 / 5,000 / 10,000 images
    python scripts/real/fashion.py --out data/fashion-20 --train 20        # 20 images a class to train on

The images are those of Debian's `dataset-fashion-mnist` (MIT): 28 x 28, grey. Validation is drawn from the training
images by the seed, the test images are the published ones. With --train, --val or --test so many images of each class
are drawn; the same seed with more images adds to them. Images that equal another one pixel for pixel would be dropped
first: about.json says how many, which is none in the version of 2020.
"""

import gzip
import sys
from pathlib import Path

import numpy as np
from material import SPLITS, check, debian, new_task, parse, parser, positive, save, write_record

from gcp.cli.main import run
from gcp.errors import DataError

PACKAGE = "dataset-fashion-mnist"
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
VAL = 500  # images a class, of 6,000


def read(folder: Path, name: str) -> np.ndarray:
    """An IDX file, gzipped: uint8 of the shape that it states."""
    data = gzip.decompress((folder / f"{name}.gz").read_bytes())
    dimensions = data[3]
    shape = np.frombuffer(data, ">u4", dimensions, 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def without_copies(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Indices of the images (N, H, W) that equal none of `others` and no earlier one."""
    seen = {image.tobytes() for image in others}
    kept = []
    for index, image in enumerate(images):
        if image.tobytes() not in seen:
            seen.add(image.tobytes())
            kept.append(index)
    return np.array(kept)


def choose(labels: np.ndarray, each: dict[str, int | None], seed: int) -> dict[str, np.ndarray]:
    """Indices of training and validation images: `each` so many of a class, all that are left where it says None.

    The validation images come first in the order of the seed, so that they are the same for any number of training
    images. Raises DataError where a class has too few.
    """
    rng = np.random.default_rng(seed)
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": []}
    for label in np.unique(labels):
        order = rng.permutation(np.flatnonzero(labels == label))
        val = VAL if each["val"] is None else each["val"]
        train = len(order) - val if each["train"] is None else each["train"]
        if train < 1 or val + train > len(order):
            raise DataError(f"--train and --val ask for {val + train} images of a class, which has {len(order)}.")
        parts["val"].append(order[:val])
        parts["train"].append(order[val : val + train])
    return {split: np.concatenate(indices) for split, indices in parts.items()}


def main(words: list[str]) -> int:
    """Make the task."""
    options = parser(__doc__)
    for split in SPLITS:
        options.add_argument(f"--{split}", type=positive, help="images a class (default: all)")
    given = parse(options, words)
    package = debian(PACKAGE, given.cache)
    folder = package.folder / "usr/share/datasets/fashion-mnist"
    images = {part: read(folder, f"{part}-images-idx3-ubyte") for part in ("train", "t10k")}
    labels = {part: read(folder, f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")}
    apart = without_copies(images["train"], images["t10k"])
    chosen = {split: apart[i] for split, i in choose(labels["train"][apart], vars(given), given.seed).items()}
    rng = np.random.default_rng(given.seed)
    own = without_copies(images["t10k"], images["t10k"][:0])
    by_class = [rng.permutation(own[labels["t10k"][own] == label])[: given.test] for label in range(len(CLASSES))]
    chosen["test"] = np.concatenate(by_class)
    with new_task(given.out) as root:
        for split in SPLITS:
            part = "t10k" if split == "test" else "train"
            for index in chosen[split]:
                save(images[part][index], root, split, CLASSES[labels[part][index]], int(index))
        checks = check(root)
        dropped = {part: len(images[part]) - len(kept) for part, kept in (("train", apart), ("t10k", own))}
        write_record(root, given, [package.record("MIT (Expat)")], checks, equal_images_dropped=dropped)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
