"""Colour photographs in small pieces, for a density of images: train, val and test are pieces of different photographs.

    python scripts/real/photographs.py --out data/photographs

The photographs are those of `textures.py`, in colour and before its check for repetitions, which matters only where the
splits share a photograph. Each is halved to 256 pixels across and cut into squares of --size that do not overlap, of
which --pieces are drawn. 70 % of the photographs are train, 10 % val, 20 % test; recoloured and shifted copies of
another photograph (correlation of thumbnails over all shifts above 0.5) are left out, and those with two equal pieces.

The folders `left` and `right` are the halves of a photograph that the pieces come from and mean nothing to a flow. The
number of a file is 100 times that of its photograph plus that of the piece.
"""

import random
import sys

import numpy as np
from copies import distinct
from material import SPLITS, check, debian, new_task, parse, parser, positive, save, write_record
from PIL import Image
from textures import ALIKE, PACKAGE, THUMBNAIL, load

from gcp.cli.main import run
from gcp.errors import DataError

SIDE = 256  # pixels of a photograph: half of what it has, which takes out most of the noise of JPEG files
SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}  # of the photographs
HALVES = ("left", "right")
MOST = 100  # pieces of a photograph, by the numbers of the files


def divided(names: list[str], seed: int) -> dict[str, list[str]]:
    """The photographs of each split, disjoint, in random order."""
    shuffled = random.Random(seed).sample(names, len(names))
    val, test = (round(SHARES[split] * len(names)) for split in ("val", "test"))
    return {"val": shuffled[:val], "test": shuffled[val : val + test], "train": shuffled[val + test :]}


def grid(image: Image.Image, size: int) -> np.ndarray:
    """The squares (rows, columns, size, size, 3) that a photograph is cut into; the number of columns is even."""
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
    rows, columns = SIDE // size, SIDE // size // 2 * 2
    return pixels[: rows * size, : columns * size].reshape(rows, size, columns, size, 3).swapaxes(1, 2)


def equal_squares(squares: np.ndarray) -> bool:
    """Whether two of the squares of `grid` have the same pixels, as those of a pattern that was tiled by a program."""
    flat = squares.reshape(-1, squares[0, 0].size)
    return len(np.unique(flat, axis=0)) < len(flat)


def pieces(squares: np.ndarray, count: int, rng: random.Random) -> dict[str, list[tuple[int, np.ndarray]]]:
    """(number, pixels (size, size, 3)) of `count` random squares of `grid`, half of them of each half of the image."""
    found = {}
    for place, half in enumerate(np.split(squares, 2, axis=1)):
        flat = half.reshape(-1, *half.shape[2:])
        chosen = sorted(rng.sample(range(len(flat)), count // 2))
        found[HALVES[place]] = [(place * (count // 2) + n, flat[square]) for n, square in enumerate(chosen)]
    return found


def main(words: list[str]) -> int:
    """Make the pieces."""
    options = parser(__doc__)
    options.add_argument("--size", type=positive, default=32, help="pixels of a piece across (default 32)")
    options.add_argument("--pieces", type=positive, default=24, help="of each photograph, an even number (default 24)")
    given = parse(options, words)
    most = min(SIDE // given.size * (SIDE // given.size // 2 * 2), MOST)
    if given.pieces % 2 or given.pieces > most:
        raise DataError(f"--pieces is {given.pieces}; allowed with --size {given.size}: an even number up to {most}.")
    package = debian(PACKAGE, given.cache)
    images, licence, left_out = load(package, "RGB")
    thumbnails = [
        (name, np.asarray(image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX), dtype=np.float64))
        for name, image in images.items()
    ]
    kept, alike = distinct(thumbnails, ALIKE)
    left_out |= {name: f"like {other}" for name, other in alike.items()}
    squares = {name: grid(images[name], given.size) for name in kept}
    left_out |= {name: "two of its pieces are equal" for name in kept if equal_squares(squares[name])}
    kept = [name for name in kept if name not in left_out]
    splits = divided(kept, given.seed)
    numbers = {name: number for number, name in enumerate(kept)}
    with new_task(given.out) as root:
        rng = random.Random(given.seed)
        for split in SPLITS:
            for name in splits[split]:
                for half, made in pieces(squares[name], given.pieces, rng).items():
                    for number, pixels in made:
                        save(pixels, root, split, half, MOST * numbers[name] + number)
        checks = check(root)
        used = sorted({licence[name] for name in kept})
        by_split = {split: {name: numbers[name] for name in sorted(splits[split])} for split in SPLITS}
        write_record(root, given, [package.record(" and ".join(used))], checks, photographs=by_split, left_out=left_out)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
