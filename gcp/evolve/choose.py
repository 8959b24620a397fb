"""Which channels stay.

- last: the first ones.
- magnitude: those where the weights (or the scales of their batch norms) that write them, times the weights that read
  them, are the greatest.
- pivot: pivoted Cholesky of the second moments of what the readers see, each channel scaled by the weights that read
  it: the next channel is the one that those before it explain least (Golub, Van
  Loan, Matrix Computations, section 5.4.2, on the Gram matrix). Of the heads of an attention: of what they add to the
  output.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import OptionError, suggest
from gcp.evolve.calls import LayerCall, Visit, watch
from gcp.evolve.channel_graph.dimension import Dimension, Triangle
from gcp.evolve.channel_graph.graph import Axis
from gcp.evolve.heads import measure

METHODS = ("pivot", "magnitude", "last")


def check_method(method: str, images: Tensor | None) -> None:
    """Raise OptionError for an unknown method, or one that needs images where there are none."""
    if method not in METHODS:
        raise OptionError(f"method is {method!r}; allowed: {', '.join(METHODS)}.{suggest(str(method), METHODS)}")
    if method == "pivot" and images is None:
        raise OptionError("method 'pivot' looks at activations: give images, or method='magnitude'")


def choose(model: nn.Module, dimension: Dimension, width: int, method: str, images: Tensor | None) -> Tensor:
    """(width,) channels that stay, in ascending order; whole groups of `dimension.step`."""
    check_method(method, images)
    step = dimension.step
    if method == "last":
        return torch.arange(width)
    if method == "magnitude":
        score = _magnitudes(model, dimension).view(-1, step).sum(1)
        blocks = score.argsort(descending=True, stable=True)[: width // step]
    else:
        assert images is not None
        blocks = pivots(_seen(model, dimension, images), width // step, step)
    return (blocks.sort().values[:, None] * step + torch.arange(step)).flatten()


def pivots(S: Tensor, count: int, step: int = 1) -> Tensor:
    """(count,) blocks of `step` rows of a symmetric S (n, n) >= 0, float64, the next always the one with most left."""
    S = S.clone()
    chosen: list[int] = []
    floor = torch.finfo(S.dtype).eps * S.diagonal().max()
    for _ in range(count):
        left = S.diagonal().view(-1, step).sum(1)
        left[chosen] = -torch.inf
        block = int(left.argmax())
        chosen.append(block)
        for row in range(block * step, (block + 1) * step):
            if S[row, row] > floor:
                column = S[:, row] / S[row, row].sqrt()
                S -= torch.outer(column, column)
    return torch.tensor(chosen)


def _norms(model: nn.Module, axis: Axis, dimension: Dimension) -> Tensor:
    """(width, n) norm of every entry along an axis that belongs to each channel, float64 on the CPU."""
    entries = axis.entries(model, dimension).detach().double()
    return entries.reshape(*entries.shape[:2], -1).norm(dim=2).cpu()


def _magnitudes(model: nn.Module, dimension: Dimension) -> Tensor:
    graph = dimension.graph
    written = [_norms(model, axis, dimension).norm(dim=1) for axis in graph.scales(dimension)]
    read = [_norms(model, axis, dimension).norm(dim=1) for axis in graph.readers(dimension)]
    score = torch.ones(dimension.width, dtype=torch.float64)
    for parts in (written, read):
        if parts:
            score = score * sum(part / part.mean().clamp(min=1e-300) for part in parts)
    return score


def _seen(model: nn.Module, dimension: Dimension, images: Tensor) -> Tensor:
    """Second moments (width, width) of what the readers see, of each one's channels by the weights that read them."""
    graph = dimension.graph
    attention = graph.attention_of(dimension)
    if attention is not None and dimension is attention.query.layout.number.dimension:
        moments = measure(model, graph, [attention], [images])[0]
        if moments is not None:
            return moments.gram()
    readers = {axis.tensor: axis for axis in graph.readers(dimension)}
    total = torch.zeros(dimension.width, dimension.width, dtype=torch.float64)

    def add(rows: Tensor, norms: Tensor, places: Tensor, centred: bool) -> None:
        """`rows` (n, entries), `norms` (width, r) of the entries at `places` (width, r)."""
        nonlocal total
        own = (rows - rows.mean(0) if centred else rows)[:, places.to(rows.device)] * norms.to(rows.device)
        flat = own.transpose(1, 2).flatten(0, 1)
        moments = (flat.mT @ flat).cpu()
        total = total + moments / moments.trace().clamp(min=1e-300)

    def visit(call: LayerCall, compute: Callable[[], Tensor]) -> Tensor:
        axis = readers[call.name]
        if not isinstance(axis.layout, Triangle):
            places = axis.layout.places(dimension)
            free = call.bias is not None or call.name in graph.norms
            add(call.channels(), _norms(model, axis, dimension), places, free)
        return compute()

    pooled = [(axis, axis.layout) for axis in readers.values() if isinstance(axis.layout, Triangle)]
    maps = pooled_maps(model, images, [layout.head for _, layout in pooled], list(readers), visit)
    for axis, layout in pooled:
        norms = _norms(model, axis, dimension).norm(dim=1)
        places = layout.channels.places(dimension)
        rows = maps[layout.head]
        add((rows - rows.mean(2, keepdim=True)).mT.flatten(0, 1), norms[:, None].expand(places.shape), places, False)
    if not readers:
        raise OptionError(f"nothing that could be refitted reads {dimension.name!r}: give method='magnitude'")
    return total


def pooled_maps(
    model: nn.Module,
    images: Tensor,
    heads: list[str],
    weights: Sequence[str] = (),
    visit: Visit = lambda call, compute: compute(),
) -> dict[str, Tensor]:
    """What heads pool, (B, d, M) float64 each, in one pass that may also visit layers (see `calls.watch`)."""
    found: dict[str, Tensor] = {}

    def keep(head: str) -> Any:
        def pool(x: Tensor) -> Tensor:
            found[head] = x.detach().flatten(2).double()
            return type(module).pool(module, x)

        module: Any = model.get_submodule(head)
        return pool

    try:
        for head in heads:
            model.get_submodule(head).__dict__["pool"] = keep(head)
        watch(model, images, weights, visit)
    finally:
        for head in heads:
            model.get_submodule(head).__dict__.pop("pool", None)
    return found
