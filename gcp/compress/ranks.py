"""The ranks among which a layer can choose, and one budget spread over the choices of all layers."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
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


Choice = dict[str, int | None]  # place among the candidates, None: the layer stays as it is


def spread(layers: Mapping[str, Candidates], budget: float | None = None, error: float | None = None) -> Choice:
    """Choose for every layer; exactly one bound is given.

    Args:
        layers: candidates of each layer, all of them smaller than the layer, at least one.
        budget: weights that all layers together may have, at least those of the smallest candidates.
        error: the sum of squared errors that may not be passed.

    The choice minimises the sum of squared relative errors along the lower convex hulls of (weights, error), on which
    the marginal gains of a layer fall; what is left of a budget goes to single candidates between them.
    """
    hulls = {name: _hull(layer) for name, layer in layers.items()}
    steps = sorted(
        (-gain, place, name) for name, hull in hulls.items() for place, gain in enumerate(_gains(layers[name], hull), 1)
    )
    at = dict.fromkeys(hulls, 0)
    size = sum(_size(layers[name], hull[0]) for name, hull in hulls.items())
    total = sum(_error(layers[name], hull[0]) for name, hull in hulls.items())
    closed: set[str] = set()
    for loss, place, name in steps:
        if loss >= 0 or (error is not None and total <= error):  # more weights would not change anything
            break
        before, after = hulls[name][place - 1], hulls[name][place]
        extra = _size(layers[name], after) - _size(layers[name], before)
        if name in closed or (budget is not None and size + extra > budget):
            closed.add(name)
            continue
        at[name], size = place, size + extra
        total += _error(layers[name], after) - _error(layers[name], before)
    choice: Choice = {name: hulls[name][place] for name, place in at.items()}
    if budget is not None:
        _fill_up(layers, choice, budget - size)
    return choice


def _fill_up(layers: Mapping[str, Candidates], choice: Choice, rest: float) -> None:
    for name in sorted(layers, key=lambda name: -_error(layers[name], choice[name])):
        layer, present = layers[name], choice[name]
        if present is None:
            continue
        better = (layer.sizes <= layer.sizes[present] + rest) & (layer.errors < layer.errors[present])
        if better.any():
            best = int(np.flatnonzero(better)[np.argmin(layer.errors[better])])
            rest -= layer.sizes[best] - layer.sizes[present]
            choice[name] = best


def _size(layer: Candidates, place: int | None) -> int:
    return layer.dense if place is None else int(layer.sizes[place])


def _error(layer: Candidates, place: int | None) -> float:
    return 0.0 if place is None else float(layer.errors[place])


def _hull(layer: Candidates) -> list[int | None]:
    """Places of the lower convex hull, from the smallest candidate to the layer itself."""
    hull: list[int | None] = []
    for place in [*range(len(layer.ranks)), None]:
        if hull and _error(layer, place) >= _error(layer, hull[-1]) and place is not None:
            continue
        while len(hull) > 1 and _gain(layer, hull[-2], hull[-1]) <= _gain(layer, hull[-1], place):
            hull.pop()
        hull.append(place)
    return hull


def _gain(layer: Candidates, before: int | None, after: int | None) -> float:
    """Error taken away for each weight."""
    return (_error(layer, before) - _error(layer, after)) / max(1, _size(layer, after) - _size(layer, before))


def _gains(layer: Candidates, hull: list[int | None]) -> list[float]:
    return [_gain(layer, before, after) for before, after in pairwise(hull)]
