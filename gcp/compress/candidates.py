"""The ranks among which a budget can choose for one layer: parameters and squared relative error of each."""

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from torch import Tensor

from gcp.compress.basis import Basis
from gcp.compress.factored import Ranks


@dataclass(frozen=True)
class Candidates:
    """Choices in ascending order of their weights (biases aside).

    Attributes:
        ranks: one rank for W as a matrix, two for Tucker-2.
        sizes: (K,) weights of the factors.
        errors: (K,) estimated squared error over the squared norm.
        dense: weights of the layer itself, whose error is 0.
    """

    ranks: list[Ranks]
    sizes: np.ndarray
    errors: np.ndarray
    dense: int

    def smaller(self) -> "Candidates":
        """Those with fewer weights than the layer."""
        return self.take(np.flatnonzero(self.sizes < self.dense))

    def take(self, places: np.ndarray) -> "Candidates":
        """Some of them."""
        return Candidates([self.ranks[i] for i in places], self.sizes[places], self.errors[places], self.dense)

    def smallest(self, error: float) -> int | None:
        """Place of the smallest whose squared error is at most `error`, None where there is none."""
        fitting = np.flatnonzero(self.errors <= error)
        return int(fitting[0]) if len(fitting) else None


def candidates(basis: Basis) -> Candidates:
    """Every rank of a layer as a matrix; of a convolution with a kernel the ranks of Tucker-2 that pay as well."""
    m, n = basis.weight.shape
    left = _left_out(basis.energies)
    ranks: list[Ranks] = [(r,) for r in range(1, len(left))]
    sizes, errors = [r * (m + n) for (r,) in ranks], list(left[1:])
    if basis.channels is not None:
        kernel = int(np.prod(basis.shape[2:]))
        for r, s, error in _tucker_path(_left_out(basis.channels[2]), left, m, basis.shape[1], kernel):
            ranks.append((r, s))
            sizes.append(r * basis.shape[1] + r * s * kernel + s * m)
            errors.append(error)
    order = np.lexsort((errors, sizes))
    return Candidates(ranks, np.array(sizes), np.array(errors), m * n).take(order)


def _left_out(energies: Tensor) -> np.ndarray:
    """(p + 1,): share of the energy that is left out by the first 0, 1, ..., p."""
    values = energies.cpu().numpy()
    tail = np.append(np.cumsum(values[::-1])[::-1], 0.0)
    return tail / tail[0] if tail[0] > 0 else tail


def _tucker_path(inner: np.ndarray, outer: np.ndarray, m: int, c: int, kernel: int) -> Any:
    """From ranks (1, 1) upwards, at each step the one that takes away more error for its weights."""
    r = s = 1
    while True:
        yield r, s, inner[r] + outer[s]
        gain_r = (inner[r] - inner[r + 1]) / (c + s * kernel) if r + 1 < len(inner) else -1.0
        gain_s = (outer[s] - outer[s + 1]) / (m + r * kernel) if s + 1 < len(outer) else -1.0
        if max(gain_r, gain_s) < 0:
            return
        r, s = (r + 1, s) if gain_r >= gain_s else (r, s + 1)


def by_ratio(basis: Basis, ratio: float) -> int:
    """The rank that is this share of the full one."""
    return max(1, ceil(ratio * len(basis.energies) - 1e-9))
