r"""Do two variants differ, or only their seeds and their test images? Runs in pairs of one seed.

Where the runs say which test images they have right, the difference is judged against both. Let d_si be 1 where of the
runs of seed s only the variant has image i right, -1 where only the reference has, and 0 elsewhere; n seeds, N images.
In the crossed model d_si = mean + seed_s + image_i + rest_si the variance of the overall mean is estimated by

    V = A + max(0, B - C),    A = s^2(d_s.) / n,    B = s^2(d_.i) / N,    C = s^2(rest) / (n N),

with d_s. and d_.i the means over images and over seeds, and s^2(rest) the residual mean square: A holds the seeds and
the rest, B the images and the rest, which is counted once (Cameron, Gelbach and Miller, "Robust inference with multiway
clustering", 2011, of a balanced table). The interval is mean +- t_{0.975, f} sqrt V with the degrees of freedom of
Satterthwaite, f = V^2 / (A^2/(n-1) + [B > C] (B^2/(N-1) + C^2/((n-1)(N-1)))). It says what other seeds and other test
images of the same kind would give; an interval over seeds alone says what other seeds would give on these very images,
and calls a difference certain that another test set would not show.

Where they do not say so, from the seeds alone: with d_1 ... d_n the differences of a variant to the reference, seed by
seed, their mean has the 95 % interval

    mean +- t_{0.975, n-1} s / sqrt n            below twenty seeds (Student 1908), and
    mean - (t*_{0.975}, t*_{0.025}) s / sqrt n   from twenty on,

with t* the quantiles of (mean* - mean) sqrt n / s* over resamples of the differences: the bootstrap-t of Efron and
Tibshirani, "An introduction to the bootstrap", 1993, chapter 12, which takes their skewness into account. (Percentile
and BCa intervals of a mean cover 91 % at twenty seeds, and about 84 % at five.) The p is that of the
paired t test. In both cases, over the m variants of a study it is corrected as in Holm, "A simple sequentially
rejective multiple test procedure", 1979: the i-th smallest times m - i + 1, and never below the one before. Intervals
are of each comparison by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

LEVEL = 0.05
FEW = 20  # seeds below which the interval is Student's
RESAMPLES = 4_000
EQUAL = 1e-9  # a spread below this part of the values is their rounding


@dataclass(frozen=True)
class Paired:
    """A variant against the reference, in the unit of the values.

    `n`: pairs. `difference`: mean of the variant minus the reference, None without a pair. `low`, `high`: its 95 %
    interval, and `p`, `p_holm`: None where the differences have no spread to judge by. `images`: test images whose
    sampling the interval takes into account, None where it is over seeds alone.
    """

    n: int
    difference: float | None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    images: int | None = None


def mean_and_deviation(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean, and standard deviation with n - 1; None where there are too few values for it."""
    mean = float(np.mean(values)) if len(values) else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def compare_paired(values: Sequence[float], reference: Sequence[float]) -> Paired:
    """Values of a variant against those of the reference, (n,) each, pair by pair."""
    differences = np.asarray(values, float) - np.asarray(reference, float)
    n = len(differences)
    if not n:
        return Paired(0, None)
    mean = float(differences.mean())
    rounding = EQUAL * max(np.abs(values).max(), np.abs(reference).max())
    if n < 2 or np.ptp(differences) <= rounding:
        return Paired(n, mean if abs(mean) > rounding else 0.0)
    low, high = student_interval(differences) if n < FEW else bootstrap_interval(differences)
    return Paired(n, mean, low, high, _p_of_t(differences))


def compare_images(right: np.ndarray, reference: np.ndarray) -> Paired:
    """Which images the runs of a variant and of the reference have right, each (n, N) bool: seeds by images, in the
    same order. In percentage points, as `compare_paired` with accuracies in percent.
    """
    d = 100.0 * (right.astype(float) - reference.astype(float))
    (n, count), mean = d.shape, float(d.mean())
    if n < 2 or count < 2 or not d.any():
        return Paired(n, mean, images=count)
    seeds, images = d.mean(1), d.mean(0)
    rest = d - seeds[:, None] - images[None, :] + mean
    A, B = float(seeds.var(ddof=1)) / n, float(images.var(ddof=1)) / count
    C = float((rest**2).sum()) / ((n - 1) * (count - 1)) / (n * count)
    V, weight = A, A**2 / (n - 1)
    if B > C:
        V += B - C
        weight += B**2 / (count - 1) + C**2 / ((n - 1) * (count - 1))
    if V <= EQUAL:
        return Paired(n, mean, images=count)
    from scipy.special import stdtr, stdtrit

    freedom, error = V**2 / weight, sqrt(V)
    half = float(stdtrit(freedom, 1 - LEVEL / 2)) * error
    return Paired(n, mean, mean - half, mean + half, 2 * float(stdtr(freedom, -abs(mean) / error)), images=count)


def at_chance(accuracy: float, chance: float, images: int) -> bool:
    """Whether an accuracy is not above that of who names one class for every image: within 1.64 standard errors (5 %,
    one-sided) of so many test images. Both in percent; `chance` is the share of the commonest class.
    """
    return accuracy <= chance + 1.645 * sqrt(chance * (100 - chance) / images)


def half_width(deviation: float, n: int) -> float:
    """Half of Student's 95 % interval of a mean of n values, n at least 2, from their standard deviation."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 1 - LEVEL / 2)) * deviation / sqrt(n)


def student_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of (n,) values, n at least 2, by Student's t."""
    mean, half = float(values.mean()), half_width(float(values.std(ddof=1)), len(values))
    return mean - half, mean + half


def bootstrap_interval(values: np.ndarray, resamples: int = RESAMPLES) -> tuple[float, float]:
    """95 % interval of the mean of (n,) values by the bootstrap-t, the same at every call; Student's where so many
    values are equal that a resample has no spread.
    """
    drawn = np.random.default_rng(0).choice(values, (resamples, len(values)))
    errors = drawn.std(1, ddof=1) / sqrt(len(values))
    if errors.min() <= EQUAL * np.abs(values).max():
        return student_interval(values)
    low, high = np.quantile((drawn.mean(1) - values.mean()) / errors, [1 - LEVEL / 2, LEVEL / 2])
    error = values.std(ddof=1) / sqrt(len(values))
    return float(values.mean() - low * error), float(values.mean() - high * error)


def _p_of_t(differences: np.ndarray) -> float:
    from scipy.special import stdtr

    n = len(differences)
    t = float(differences.mean()) / (float(differences.std(ddof=1)) / sqrt(n))
    return 2 * float(stdtr(n - 1, -abs(t)))


def holm(found: Sequence[float | None]) -> list[float | None]:
    """Corrected p of each test of a family, None where there was no test."""
    order = sorted((p, place) for place, p in enumerate(found) if p is not None)
    corrected: list[float | None] = [None] * len(found)
    least = 0.0
    for rank, (p, place) in enumerate(order):
        least = max(least, min(1.0, (len(order) - rank) * p))
        corrected[place] = least
    return corrected


def compare_all(variants: Sequence[Paired]) -> list[Paired]:
    """The comparisons of one study with `p_holm`."""
    corrected = holm([variant.p for variant in variants])
    return [replace(variant, p_holm=p) for variant, p in zip(variants, corrected, strict=True)]


def verdict(found: Paired, reference: str, unit: str = "points", more_is_better: bool = True) -> str:
    """What a comparison says, in a sentence without its subject and its full stop."""
    if found.difference is None:
        return f"no seed has both this and {reference}"
    shift, seeds = f"{found.difference:+.2f} {unit}", _seeds(found.n)
    if found.n == 1:
        return f"{shift} against {reference} with one seed: nothing can be said"
    if found.low is None or found.high is None or found.p is None:
        if found.difference == 0:
            return f"equal to {reference} with each of {seeds}"
        return f"{shift} against {reference} with each of {seeds}: without any spread there is no interval"
    interval = f"95 % interval {found.low:+.2f} to {found.high:+.2f}, {seeds}"
    p = found.p if found.p_holm is None else found.p_holm
    if p < LEVEL:
        better = (found.difference > 0) == more_is_better
        return f"{'better' if better else 'worse'} than {reference}: {shift}, {interval}, p {_digits(p)}"
    alone = f"; p {_digits(found.p)} alone, p {_digits(p)} among all variants" if found.p < LEVEL else ""
    return f"cannot be told apart from {reference}: {shift}, {interval}{alone}"


def _seeds(n: int) -> str:
    return f"{n} seeds"


def _digits(p: float) -> str:
    return f"= {p:.2g}" if p >= 1e-4 else "< 0.0001"
