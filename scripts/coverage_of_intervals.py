"""How often the 95 % intervals of a study hold the true difference of two heads, by simulated studies.

    python scripts/coverage_of_intervals.py [--seeds N ...] [--images N ...] [--studies N]

A run has image i right with a probability Phi(ability + seed_s - difficulty_i + taste_i): difficulties differ between
images, `taste` is what one head finds easier than the other, and `seed_s` moves all images of a run. The runs of one
seed share half of its variance, because they begin alike. The truth is the difference of the expected accuracies over
all images and all seeds. Three intervals are compared: over seeds alone (Student), over the images of one pair of
models alone (as McNemar), and over both (`gcp.studies.statistics.compare_images`).
"""

import argparse
from itertools import product
from statistics import median

import benchmarking
import numpy as np
from scipy.special import ndtr

from gcp.evaluation.comparison import compare
from gcp.studies.statistics import compare_images, compare_paired

ABILITY, DIFFICULTY = 3.5, 1.5  # 95 to 96 % are right
CASES = {  # taste, spread of a seed, ability that the second head has more
    "equal heads, images alone": (1.0, 0.0, 0.0),
    "equal heads, seeds alone": (0.0, 0.2, 0.0),
    "equal heads, both": (1.0, 0.2, 0.0),
    "a better head, both": (1.0, 0.2, 0.4),
}


def study(generator: np.random.Generator, n: int, count: int, case: str) -> tuple[np.ndarray, np.ndarray]:
    """Which images (n, count) each of two heads has right."""
    taste, spread, gain = CASES[case]
    difficulty = generator.normal(0, DIFFICULTY, count)
    shared = generator.normal(0, spread, n)
    heads = []
    for more in (0.0, gain):
        seed = (shared + generator.normal(0, spread, n)) / 2**0.5
        ability = ABILITY + more + seed[:, None] - difficulty + generator.normal(0, taste / 2**0.5, count)
        heads.append(generator.random((n, count)) < ndtr(ability))
    return heads[0], heads[1]


def truth(case: str) -> float:
    """Points by which the second head is better, over all images and seeds: normal terms add up inside Phi."""
    taste, spread, gain = CASES[case]
    width = (1 + DIFFICULTY**2 + taste**2 / 2 + spread**2) ** 0.5
    return 100 * float(ndtr((ABILITY + gain) / width) - ndtr(ABILITY / width))


def coverage(case: str, n: int, count: int, studies: int) -> dict[str, float]:
    """Percent of the intervals that hold the truth, and the median half width in points of the one over both."""
    generator, expected = np.random.default_rng(0), truth(case)
    held, widths = {"seeds alone": 0, "images alone": 0, "both": 0}, []
    for _ in range(studies):
        first, second = study(generator, n, count, case)
        pair = compare(first[0], second[0])
        both = compare_images(second, first)
        accuracies = [100 * each.mean(1) for each in (second, first)]
        found = {"seeds alone": compare_paired(*accuracies), "images alone": pair, "both": both}
        for name, each in found.items():
            low, high = each.low, each.high
            held[name] += (
                (low <= expected <= high) if low is not None and high is not None else each.difference == expected
            )
        if both.low is not None and both.high is not None:
            widths.append((both.high - both.low) / 2)
    return {name: 100 * number / studies for name, number in held.items()} | {"width": median(widths or [0.0])}


def main(argv: list[str]) -> int:
    """Print a line for each case, number of seeds and number of images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    benchmarking.several(parser, "--seeds", [3, 5, 10], "of a study")
    benchmarking.several(parser, "--images", [360, 2000], "of the test split")
    parser.add_argument("--studies", type=benchmarking.whole(1), default=2000, metavar="N", help="simulated (2000)")
    arguments = parser.parse_args(argv)
    print(f"{'':<28}{'seeds':>6}{'images':>8}{'seeds alone':>13}{'images alone':>14}{'both':>8}{'half width':>12}")
    for case, n, count in product(CASES, arguments.seeds, arguments.images):
        found = coverage(case, n, count, arguments.studies)
        cells = f"{found['seeds alone']:>11.1f} %{found['images alone']:>12.1f} %{found['both']:>6.1f} %"
        print(f"{case:<28}{n:>6}{count:>8}{cells}{found['width']:>12.2f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(benchmarking.run(main))
