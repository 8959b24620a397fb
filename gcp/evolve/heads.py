"""The heads of an attention: a basis of their channels in which the weakest can go, and how much each is used.

    out_i = sum_j softmax_j(q_i . k_j / sqrt(c)) v_j,    o = W [out of head 1; ...; out of head h] + b

For each head an invertible T changes nothing: q' = T^T q with k' = T^-1 k, nor does v' = S^-1 v with W' = W S. With the
second moments G_q = L_q L_q^T and G_k = L_k L_k^T over all positions, and L_q^T L_k = U diag(s) V^T, the balanced basis

    T = L_k V s^(-1/2),    T^-1 = s^(-1/2) U^T L_q^T

has q' and k' with second moments diag(s), and the first r channels keep the scores best: without the others E (q . k)^2
over independent positions falls by the sum of their s^2, which no other rank r improves on (Moore's balancing, on the
product of queries and keys). Values and W have it with G_v, of what the heads give, and W^T W. What is dropped is then
refitted by `gcp.evolve.refit`.

New channels change nothing where their keys are zero and W reads them with zeros. The scores are divided by sqrt(c):
where c becomes c', queries are multiplied by sqrt(c' / c). The optimizer's state of them stays what it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gcp.evolve.calls import LayerCall, watch
from gcp.evolve.channel_graph.dimension import Dimension
from gcp.evolve.channel_graph.graph import COLUMNS, ROWS, Attention, Axis, Graph, ProjectionPart
from gcp.evolve.edit import OptimizerState

NULL = 1e-14  # of the largest singular value: below it a direction is not there


@torch.no_grad()
def keep_scores(model: nn.Module, dimension: Dimension, source: Tensor, before: int) -> None:
    """After an edit of `dimension`: the scores of attentions stay what they were, in place.

    `source` as in `gcp.evolve.edit.edit`, `before` the old width.
    """
    for attention in dimension.graph.attentions:
        layout = attention.query.layout
        if layout.width.dimension is dimension:
            fresh = source < 0
            if attention.scaled:
                for tensor, rows in _written(model, dimension.graph, attention.query):
                    tensor[rows.flatten()] *= (len(source) / before) ** 0.5
            for tensor, rows in _written(model, dimension.graph, attention.key):
                tensor[rows[:, fresh].flatten()] = 0


def _written(model: nn.Module, graph: Graph, part: ProjectionPart) -> list[tuple[Tensor, Tensor]]:
    """Weight, and bias, that write a part, each with the rows (heads, width) of it."""
    return [(model.get_parameter(axis.tensor), part.layout.of_copy(part.copy)) for axis in _writers(graph, part)]


def _writers(graph: Graph, part: ProjectionPart) -> list[Axis]:
    return graph.written_by(part.layout)


@dataclass
class HeadMoments:
    """Second moments over positions, float64 on the CPU, summed: of queries, keys (h, c, c), and of what all heads give
    (h c, h c); `weight` (m, h c) reads that.
    """

    query: Tensor
    key: Tensor
    out: Tensor
    weight: Tensor
    samples: int

    @property
    def value(self) -> Tensor:
        """(h, c, c) of each head's own."""
        h, c = self.heads, len(self.out) // self.heads
        own = torch.arange(h)
        return self.out.view(h, c, h, c)[own, :, own]

    @property
    def heads(self) -> int:
        return len(self.query)

    @property
    def read(self) -> Tensor:
        """(h, c, c) W^T W of each head."""
        W = self.weight.view(len(self.weight), self.heads, -1)
        return torch.einsum("mhc,mhd->hcd", W, W)

    def gram(self) -> Tensor:
        """(h, h) inner products of what the heads add to the output, over all positions."""
        h = self.heads
        both = self.out * (self.weight.mT @ self.weight)
        return both.view(h, len(both) // h, h, -1).sum((1, 3))


def reader(attention: Attention, graph: Graph) -> str | None:
    """The weight that reads what the heads give; None where it is not just one."""
    found = [axis.tensor for axis in graph.axes.values() if axis.layout is attention.out and axis.role == COLUMNS]
    return found[0] if len(found) == 1 else None


def measure(
    model: nn.Module, graph: Graph, attentions: Sequence[Attention], batches: Sequence[Tensor]
) -> list[HeadMoments | None]:
    """The moments of each attention over images, in evaluation mode; None for one whose heads not one layer reads."""
    readers = [reader(attention, graph) for attention in attentions]
    sums: list[dict[str, Any]] = [{} for _ in attentions]
    wanted: dict[str, list[tuple[int, str, ProjectionPart | None]]] = {}
    for number, (attention, name) in enumerate(zip(attentions, readers, strict=True)):
        if name is not None:
            wanted.setdefault(name, []).append((number, "out", None))
            for kind, part in (("query", attention.query), ("key", attention.key)):
                weight = next(axis.tensor for axis in _writers(graph, part) if axis.role == ROWS)
                wanted.setdefault(weight, []).append((number, kind, part))

    def visit(call: LayerCall, compute: Callable[[], Tensor]) -> Tensor:
        given = compute()
        for number, kind, part in wanted[call.name]:
            if part is None:
                rows = call.channels()
                moments = rows.mT @ rows
                sums[number]["samples"] = sums[number].get("samples", 0) + len(rows)
            else:
                heads = call.outputs(given)[:, part.layout.of_copy(part.copy).to(given.device)]
                moments = torch.einsum("nhc,nhd->hcd", heads, heads)
            sums[number][kind] = sums[number].get(kind, 0) + moments.cpu()
        return given

    for batch in batches:
        watch(model, batch, list(wanted), visit)
    return [
        HeadMoments(weight=model.get_parameter(name).detach().double().flatten(1).cpu(), **found) if name else None
        for name, found in zip(readers, sums, strict=True)
    ]


def balance(G: Tensor, H: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For moments (h, c, c) of two sides of a product: T, its inverse (h, c, c), and s (h, c) descending.

    The side of G becomes T^T x, the other T^-1 y.
    """
    L, M = _root(G), _root(H)
    U, s, Vh = torch.linalg.svd(L.mT @ M)
    scale = s.clamp(min=NULL * float(s.amax().clamp(min=1e-300))).sqrt()
    T = M @ Vh.mT / scale[:, None]
    inverse = (U / scale[:, None]).mT @ L.mT
    return T, inverse, s


def _root(G: Tensor) -> Tensor:
    """L with G = L L^T, symmetric: there is no order of channels that a triangular one would favour."""
    values, vectors = torch.linalg.eigh(G)
    floor = values[:, -1:].clamp(min=1e-300) * NULL
    return vectors * values.clamp(min=floor)[:, None].sqrt() @ vectors.mT


def width_values(attention: Attention, dimension: Dimension, moments: HeadMoments) -> Tensor:
    """(c,) how much the channels of a head are used, the largest 1: of scores, of values, or the larger of both where
    they have one width. Root mean square over the heads of what `balance` finds, on the scale of activations.
    """
    found = []
    assert attention.value is not None
    if attention.query.layout.width.dimension is dimension:
        found.append(balance(moments.query, moments.key)[2])
    if attention.value.layout.width.dimension is dimension:
        found.append(balance(moments.read, moments.value)[2])
    means = [values.square().mean(0).sqrt() for values in found]
    return torch.stack([mean / mean[0].clamp(min=1e-300) for mean in means]).amax(0)


@torch.no_grad()
def rotate_heads(
    model: nn.Module,
    dimension: Dimension,
    attention: Attention,
    moments: HeadMoments,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Give each head the balanced basis, in place, the strongest channel first; outputs stay.

    The optimizer's state of the layers that change begins at zero.
    """
    graph = dimension.graph
    changed: list[Tensor] = []
    assert attention.value is not None
    if attention.query.layout.width.dimension is dimension:
        T, inverse, _ = balance(moments.query, moments.key)
        changed += _turn(model, graph, attention.query, T.mT)
        changed += _turn(model, graph, attention.key, inverse)
    if attention.value.layout.width.dimension is dimension:
        T, inverse, _ = balance(moments.read, moments.value)
        changed += _turn(model, graph, attention.value, inverse)
        name = reader(attention, graph)
        assert name is not None
        weight = model.get_parameter(name)
        W = weight.double().flatten(1).view(len(weight), moments.heads, -1)
        weight.copy_(torch.einsum("mhc,hcd->mhd", W, T.to(W.device)).reshape(weight.shape))
        changed.append(weight)
    OptimizerState(optimizer).reset(changed)


def _turn(model: nn.Module, graph: Graph, part: ProjectionPart, matrix: Tensor) -> list[Tensor]:
    changed = []
    for tensor, rows in _written(model, graph, part):
        old = tensor[rows.to(tensor.device)].double()
        new = torch.einsum("hcd,hd...->hc...", matrix.to(old.device), old)
        tensor[rows.flatten().to(tensor.device)] = new.flatten(0, 1).to(tensor)
        changed.append(tensor)
    return changed
