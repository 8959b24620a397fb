"""Principal axes: another basis of the channels that a covariance head pools, in which the weakest can go.

A head's root is a spectral function, f(U^T P U) = U^T f(P) U. Where the pooled map is affine in what a convolution
reads (no ReLU in between), z' = U^T z is another convolution, and a linear layer <M, Q> on the root is
<U^T M U, Q'>: nothing changes. With U the eigenvectors of the mean covariance, dropping the direction of the smallest
eigenvalue l costs sqrt(l) / |P^(1/2)| of the root (exactly, for the covariance that U belongs to). Triangles hold
off-diagonal entries once: their weight is 2 M_ij.

The batch norm behind the convolution is set to pass its new channels on as they are; in training mode it scales each of
them by its own variance, as it did the old ones. New directions are new units: the optimizer's state of these layers
begins at zero.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gcp.evolve.channel_graph.dimension import Dimension, Triangle
from gcp.evolve.channel_graph.graph import Axis
from gcp.evolve.choose import pooled_maps
from gcp.evolve.edit import OptimizerState
from gcp.evolve.parametrized import is_bounded
from gcp.kernels.triangle import pack, unpack


@dataclass(frozen=True)
class Rotatable:
    """A pooled dimension that is affine in what its one convolution reads.

    Attributes:
        head: that pools it.
        weight: of the convolution.
        norm: module of the batch norm behind it, None where there is none.
        readers: weights that read the triangle.
    """

    head: str
    weight: str
    norm: str | None
    readers: list[str]


def rotatable(model: nn.Module, dimension: Dimension) -> Rotatable | None:
    """How to rotate the axes of a dimension, None where it cannot be done."""
    graph = dimension.graph
    readers = graph.readers(dimension)
    if len(readers) != 1 or not isinstance(readers[0].layout, Triangle):
        return None
    layout = readers[0].layout
    origin = graph.affine.get(layout.head)
    if origin is None or len(layout.channels.pieces) != 1 or layout.channels.pieces[0].repeat != 1:
        return None
    weight, mean = origin
    norm = mean.rpartition(".")[0] if mean else None
    known = {weight.rpartition(".")[0], norm, readers[0].module}
    axes = list(graph.touching(dimension))
    if any(axis.module not in known or _twice(axis, axes) for axis in axes):
        return None
    if any(is_bounded(model.get_parameter(name)) for name in (weight, *(axis.tensor for axis in readers))):
        return None  # they cannot have the factors that another basis asks for
    if norm is not None and any(getattr(model.get_submodule(norm), name, None) is None for name in ("weight", "bias")):
        return None  # it scales every direction to one, and there is nothing to undo it
    return Rotatable(layout.head, weight, norm, [axis.tensor for axis in readers])


def _twice(axis: Axis, axes: list[Axis]) -> bool:
    return sum(other.tensor == axis.tensor for other in axes) > 1


def principal_axes(model: nn.Module, rotation: Rotatable, images: Tensor) -> Tensor:
    """(d, d) eigenvectors of the mean covariance over images as columns, the largest eigenvalue first; float64."""
    z = pooled_maps(model, images, [rotation.head])[rotation.head]
    z = z - z.mean(2, keepdim=True)
    return torch.linalg.eigh(torch.einsum("bim,bjm->ij", z, z).cpu())[1].flip(1)


@torch.no_grad()
def rotate_axes(
    model: nn.Module, rotation: Rotatable, U: Tensor, images: Tensor, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """Use the columns of U (d, d) as channels, in place."""
    z = pooled_maps(model, images, [rotation.head])[rotation.head].transpose(0, 1).flatten(1)
    U = U.to(z.device)
    conv: Any = model.get_submodule(rotation.weight.rpartition(".")[0])
    W = conv.weight.double()
    shift = W.new_zeros(len(W)) if conv.bias is None else conv.bias.double()
    changed = [conv.weight, conv.bias]
    if rotation.norm is not None:
        norm: Any = model.get_submodule(rotation.norm)
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = scale * (shift - norm.running_mean.double()) + norm.bias.double()
        W = scale.view(-1, 1, 1, 1) * W
        changed += [norm.weight, norm.bias]
    W, shift = (U.mT @ W.flatten(1)).view_as(W), U.mT @ shift
    if rotation.norm is not None:
        turned = U.mT @ z
        mean, variance = turned.mean(1) - shift, turned.var(1, unbiased=False)
        _set(norm.running_mean, mean)
        _set(norm.running_var, variance)
        _set(norm.weight, (variance + norm.eps).sqrt())
        _set(norm.bias, shift + mean)
        shift = torch.zeros_like(shift)
    _set(conv.weight, W)
    if conv.bias is not None:
        _set(conv.bias, shift)
    for name in rotation.readers:
        reader = model.get_parameter(name)
        changed.append(reader)
        M = unpack(reader.double())
        halves = 1 + torch.eye(len(U), dtype=M.dtype, device=M.device)
        _set(reader, pack(2 * (U.mT @ (M * halves / 2) @ U) / halves))
    OptimizerState(optimizer).reset(changed)


def _set(tensor: Tensor, values: Tensor) -> None:
    tensor.copy_(values.reshape(tensor.shape))
