"""One budget spread over layers: each rank goes where it takes away most error for its weights."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np

from gcp.compress.candidates import Candidates

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
