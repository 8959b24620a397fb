"""Residual blocks as one map: the singular values of Id + B A in the place of those of the weights.

A block x + B f(A x) of hidden width h is, but for the function f between, the map Id + B A. Where B A is small beside
the identity the block hardly does anything, however its own singular values compare with each other. A hidden unit is
negligible here if it moves no singular value s of Id + B A away from 1: the values are the |s - 1|, the largest h of
them, and they are compared with the largest s. (SVD-evolutive-CNN names "svd on Id + AB instead of A and B" as a
direction to go and does not say what is cut; that the distance from 1 decides is ours: a singular value of 0 is a
direction that the block cancels, for which it needs a unit.)

Of convolutions B A is a matrix for each frequency of the map; |s - 1| is the root mean square over a grid of `GRID`
frequencies a side. Batch norms behind A and B scale their rows. What is no such block (another shape on the way, more
than two layers, a layer norm before A) has the values of its weights.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gcp.evolve.channel_graph.dimension import Dimension
from gcp.evolve.channel_graph.graph import COLUMNS, ROWS, Graph

GRID = 4


class Block(NamedTuple):
    """Weights by name: `first` (h, d, ...) writes the hidden channels, `second` (d, h, ...) reads them."""

    first: str
    second: str


def block_of(dimension: Dimension) -> Block | None:
    """The residual block whose hidden channels these are; None where there is none."""
    axes = dimension.graph.axes
    writers = [axis.tensor for axis in dimension.graph.touching(dimension) if axis.role == ROWS]
    readers = [axis.tensor for axis in dimension.graph.touching(dimension) if axis.role == COLUMNS]
    if len(writers) != 1 or len(readers) != 1 or writers[0] in dimension.graph.behind_norm:
        return None
    read, written = axes.get((writers[0], 1)), axes.get((readers[0], 0))
    if read is None or written is None or read.layout.size != written.layout.size:
        return None
    if read.layout.dimensions != written.layout.dimensions or len(read.layout.dimensions) != 1:
        return None
    return Block(writers[0], readers[0])


@torch.no_grad()
def residual_values(model: nn.Module, dimensions: Mapping[str, Dimension]) -> dict[str, tuple[Tensor, float]]:
    """Of each dimension within a residual block: |s - 1|, (min(h, d),) descending, and the largest s; float64, CPU."""
    found = {}
    for name, dimension in dimensions.items():
        if (block := block_of(dimension)) is not None:
            A, B = (_frequencies(model, dimension.graph, weight) for weight in block)
            if len(A) == len(B):
                s = torch.linalg.svdvals(torch.eye(B.shape[1], dtype=B.dtype) + B @ A)
                moved = (s - 1).abs().sort(dim=1, descending=True).values.square().mean(0).sqrt()
                found[name] = moved[: dimension.width], float(s.max())
    return found


def _frequencies(model: nn.Module, graph: Graph, name: str) -> Tensor:
    """(frequencies, rows, columns) of a weight, complex128 on the CPU, scaled by the batch norm behind it."""
    weight = model.get_parameter(name).detach().double().cpu()
    if name in graph.norms:
        norm: Any = model.get_submodule(graph.norms[name].rpartition(".")[0])
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight.double()
        weight = weight * scale.cpu().view(-1, *(1,) * (weight.ndim - 1))
    if weight.ndim == 2:
        return weight[None].to(torch.complex128)
    axes = tuple(range(2, weight.ndim))
    centred = weight
    for axis in axes:  # folded onto the grid, the middle of the kernel at zero
        size = weight.shape[axis]
        places = (torch.arange(size) - size // 2) % GRID
        shape = [GRID if other == axis else length for other, length in enumerate(centred.shape)]
        centred = centred.new_zeros(shape).index_add_(axis, places, centred)
    return torch.fft.fftn(centred, dim=axes).flatten(2).permute(2, 0, 1)
