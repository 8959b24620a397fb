r"""Two models on the same images: is one better, or was it chance?

Only images on which exactly one of them is right carry information. With b of them right by the first alone and c by
the second alone, McNemar's exact test asks whether a fair coin would give as uneven a split,

    p = min(1, 2 sum_{k <= min(b, c)} C(b + c, k) / 2^(b + c)),

and the difference of the accuracies, (c - b) / N, has the interval of Bonett and Price, "Adjusted Wald confidence
interval for a difference of binomial proportions based on paired data", JEBS 2012: with p1 = (b + 1)/(N + 2) and
p2 = (c + 1)/(N + 2),  p2 - p1 +- 1.96 sqrt((p1 + p2 - (p2 - p1)^2) / (N + 2)).
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np

QUANTILE = 1.959963984540054  # of the normal distribution, for 95 %
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """Of `count` images `only_first` and `only_second` are right in one model alone, `both` and `neither` in two.

    `difference`, `low`, `high`: accuracy of the second minus that of the first in percentage points, and its 95 %
    interval. `p`: of the exact test, two-sided.
    """

    count: int
    both: int
    only_first: int
    only_second: int
    neither: int
    difference: float
    low: float
    high: float
    p: float

    @property
    def sentence(self) -> str:
        """The result in words."""
        single = self.only_first + self.only_second
        told = f"p = {self.p:.2g}" if self.p >= 1e-4 else "p < 0.0001"
        spread = f"{self.difference:+.2f} points (95 % interval {self.low:+.2f} to {self.high:+.2f})"
        if not single:
            return f"Both models are right on the same images: {spread}."
        evidence = f"{single} images are right in one model alone, {self.only_second} of them in the second ({told})"
        if self.p >= LEVEL:
            return f"No difference is shown: {spread}; {evidence}."
        better = "second" if self.only_second > self.only_first else "first"
        return f"The {better} model is better: {spread}; {evidence}."


def compare(first: np.ndarray, second: np.ndarray) -> Comparison:
    """Compare two models by which images they have right, (N,) bool each, in the same order."""
    count = len(first)
    b, c = int((first & ~second).sum()), int((~first & second).sum())
    p1, p2 = (b + 1) / (count + 2), (c + 1) / (count + 2)
    spread = QUANTILE * sqrt((p1 + p2 - (p2 - p1) ** 2) / (count + 2))
    both = int((first & second).sum())
    return Comparison(
        count=count,
        both=both,
        only_first=b,
        only_second=c,
        neither=count - both - b - c,
        difference=100 * (c - b) / count,
        low=100 * max(-1.0, p2 - p1 - spread),
        high=100 * min(1.0, p2 - p1 + spread),
        p=sign_test(b, c),
    )


def sign_test(b: int, c: int) -> float:
    """Probability that a fair coin splits b + c as unevenly, two-sided, exact."""
    total, term, tail = b + c, 1, 0
    for k in range(min(b, c) + 1):
        tail += term
        term = term * (total - k) // (k + 1)
    return min(1.0, 2 * tail / 2**total)  # of integers, which Python divides exactly at any length
