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
STATES = 2000  # partial choices that are kept; each layer costs a sort of so many times its candidates


@dataclass(frozen=True)
class Spread:
    """One bound spread over layers, and how much better any other choice could be.

    Attributes:
        choice: of every layer.
        gap: what the best choice may lie below this one: the sum of squared errors of a budget, weights of an error;
            0 where the choice is known to be the best.
    """

    choice: Choice
    gap: float


def spread(layers: Mapping[str, Candidates], budget: float | None = None, error: float | None = None) -> Spread:
    """Choose for every layer; exactly one bound is given.

    A multiple-choice knapsack: of every layer one option, with a cost that is bounded in sum and a value that is
    to be least in sum; weights and squared error, or the other way round. It is solved by dynamic programming over the
    Pareto fronts of the first layers, without the partial choices that the linear relaxation of the others shows to be
    no better than what is known. Where more than `STATES` are left, the least promising are given up, and the
    gap is what the relaxation allows these.

    Args:
        layers: candidates of each layer, all of them smaller than the layer, at least one.
        budget: weights that all layers together may have, at least those of the smallest candidates.
        error: the sum of squared errors that may not be passed.
    """
    limit = budget if budget is not None else error
    assert limit is not None
    fronts = [_front(layer, by_size=budget is not None) for layer in layers.values()]
    order = sorted(range(len(fronts)), key=lambda i: -float(np.ptp(fronts[i].values)))  # what matters most comes first
    places, gap = _solve([fronts[i] for i in order], float(limit))
    by_layer = dict(zip(order, places, strict=True))
    return Spread({name: by_layer[i] for i, name in enumerate(layers)}, gap)


@dataclass(frozen=True)
class _Front:
    """Options of a layer that no other beats in cost and value: costs ascending, values descending."""

    costs: np.ndarray
    values: np.ndarray
    places: tuple[int | None, ...]

    def hull(self) -> np.ndarray:
        """Indices of the lower convex hull of (cost, value)."""
        hull: list[int] = []
        for i in range(len(self.costs)):
            while len(hull) > 1 and self._slope(hull[-2], hull[-1]) >= self._slope(hull[-1], i):
                hull.pop()
            hull.append(i)
        return np.array(hull)

    def _slope(self, i: int, j: int) -> float:
        return (self.values[j] - self.values[i]) / max(self.costs[j] - self.costs[i], 1e-300)


def _front(layer: Candidates, by_size: bool) -> _Front:
    sizes, errors = np.append(layer.sizes, layer.dense).astype(float), np.append(layer.errors, 0.0)
    costs, values = (sizes, errors) if by_size else (errors, sizes)
    keep = _pareto(costs, values)
    places = tuple(None if i == len(layer.sizes) else int(i) for i in keep)
    return _Front(costs[keep], values[keep], places)


def _pareto(costs: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Indices of what nothing else beats, by ascending cost."""
    order = np.lexsort((values, costs))
    least = np.minimum.accumulate(values[order])
    return order[np.append(True, values[order][1:] < least[:-1])]


def _relaxed(fronts: list[_Front]) -> tuple[np.ndarray, np.ndarray]:
    """The least value of all layers at a cost, where options may be mixed: corners of a convex line (costs, values)."""
    cost, value = sum(f.costs[0] for f in fronts), sum(f.values[0] for f in fronts)
    hulls = [front.hull() for front in fronts]
    more = np.concatenate([[0.0], *(np.diff(f.costs[h]) for f, h in zip(fronts, hulls, strict=True))])
    less = np.concatenate([[0.0], *(np.diff(f.values[h]) for f, h in zip(fronts, hulls, strict=True))])
    order = np.argsort(less[1:] / np.maximum(more[1:], 1e-300), kind="stable") + 1
    order = np.append(0, order)
    return cost + np.cumsum(more[order]), value + np.cumsum(less[order])


def _greedy(fronts: list[_Front], limit: float) -> list[int]:
    """A choice within the limit, in indices of the fronts: up the hulls by falling gain, then single options."""
    at, hulls = [0] * len(fronts), [front.hull() for front in fronts]
    cost = sum(front.costs[0] for front in fronts)
    steps = [(f._slope(a, b), n, b) for n, (f, h) in enumerate(zip(fronts, hulls, strict=True)) for a, b in pairwise(h)]
    closed: set[int] = set()
    for _, n, place in sorted(steps):
        extra = fronts[n].costs[place] - fronts[n].costs[at[n]]
        if n in closed or cost + extra > limit:
            closed.add(n)
            continue
        at[n], cost = int(place), cost + extra
    for n, front in enumerate(fronts):
        best = int(np.searchsorted(front.costs, front.costs[at[n]] + limit - cost, side="right")) - 1
        if best > at[n]:
            cost += front.costs[best] - front.costs[at[n]]
            at[n] = best
    return at


def _solve(fronts: list[_Front], limit: float) -> tuple[list[int | None], float]:
    """Places of the best choice, and how far below its value another one might be."""
    if not fronts:
        return [], 0.0
    best = _greedy(fronts, limit)
    known = float(sum(front.values[i] for front, i in zip(fronts, best, strict=True)))
    costs, values = np.zeros(1), np.zeros(1)
    path: list[tuple[np.ndarray, np.ndarray]] = []  # by layer: which state each came from, and by which option
    given_up = np.inf
    for n, front in enumerate(fronts):
        rest = fronts[n + 1 :]
        all_costs = (costs[:, None] + front.costs).ravel()
        all_values = (values[:, None] + front.values).ravel()
        corners, floor = _relaxed(rest) if rest else (np.zeros(1), np.zeros(1))
        left = limit - all_costs
        bound = all_values + np.interp(left, corners, floor)
        fine = np.flatnonzero((left >= corners[0]) & (bound < known - 1e-12 * abs(known)))
        fine = fine[_pareto(all_costs[fine], all_values[fine])] if len(fine) else fine
        if len(fine) > STATES:
            ranked = fine[np.argsort(bound[fine], kind="stable")]
            given_up = min(given_up, float(bound[ranked[STATES]]))
            fine = np.sort(ranked[:STATES])
        if not len(fine):
            break
        path.append((fine // len(front.costs), fine % len(front.costs)))
        costs, values = all_costs[fine], all_values[fine]
    else:
        state = int(np.argmin(values))
        known = float(values[state])
        for n in reversed(range(len(fronts))):
            best[n] = int(path[n][1][state])
            state = int(path[n][0][state])
    places = [front.places[i] for front, i in zip(fronts, best, strict=True)]
    return places, max(0.0, known - given_up)
