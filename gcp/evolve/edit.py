"""One dimension of a model gets other channels: every tensor, every number and the optimizer's state with it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import OptionError
from gcp.evolve.moments import Moments
from gcp.evolve.ties.dimension import Dimension
from gcp.evolve.ties.graph import ONES, ROWS, TYPICAL, Axis

Cuts = list[tuple[int, Tensor]]


def cut(tensor: Tensor, cuts: Cuts) -> Tensor:
    """Entries by (axis, index): where an index is -1 there are zeros. In the memory format of `tensor`."""
    new = tensor
    for axis, index in cuts:
        new = new.index_select(axis, index.clamp(min=0).to(tensor.device))
        new.index_fill_(axis, (index < 0).nonzero()[:, 0].to(tensor.device), 0)
    if tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last):
        new = new.contiguous(memory_format=torch.channels_last)
    return new


@dataclass(frozen=True)
class Follower:
    """What changes along with the model: `optimizer` of its parameters, `average` of its weights."""

    optimizer: torch.optim.Optimizer | None = None
    average: nn.Module | None = None


def followers(optimizer: torch.optim.Optimizer | None, ema: Any) -> Follower:
    """`ema` may be a module, or an object that holds one as `module`."""
    average = ema if ema is None or isinstance(ema, nn.Module) else getattr(ema, "module", None)
    if ema is not None and not isinstance(average, nn.Module):
        raise OptionError(f"ema is {type(ema).__name__}; allowed: a module, or an object with one as .module")
    return Follower(optimizer, average)


@torch.no_grad()
def edit(model: nn.Module, dimension: Dimension, source: Tensor, follower: Follower = Follower()) -> None:
    """Give a dimension the channels of `source`, in place.

    Weights that read new channels have zeros there, those that write them values of the scale of the present ones,
    batch norms pass them on as they are. What stays is bit-identical, in the state of the optimizer too, where the
    new begins with zeros. Parameters are replaced, in the groups of the optimizer as well; gradients are cleared.

    Args:
        model: any module.
        dimension: of `trace(model)`.
        source: (new width,), for each new channel the old one that it continues, -1 for a new one.
        follower: what changes with it.

    Raises:
        OptionError: the optimizer keeps state that no channels can be told in.
    """
    graph = dimension.graph
    axes: dict[str, list[Axis]] = {}
    for axis in graph.touching(dimension):
        axes.setdefault(axis.tensor, []).append(axis)
    cuts = {name: [(axis.axis, axis.layout.index(dimension, source)) for axis in axes[name]] for name in axes}
    own, average = _Tensors(model), follower.average
    theirs = _Tensors(average) if average is not None else None
    moments = Moments(follower.optimizer, {id(own[name]): name for name in cuts})
    for name, places in cuts.items():
        old = own[name]
        new = cut(old, places)
        for axis, (_, index) in zip(axes[name], places, strict=True):
            _begin(new, old, axis, index)
        if theirs is not None:
            theirs.put(name, torch.where(_fresh(old, places), new.to(theirs[name]), cut(theirs[name], places)))
        moments.carry(old, own.put(name, new), lambda state, places=places: cut(state, places))  # type: ignore[misc]
    dimension.width = len(source)
    for attribute in graph.attributes.values():
        if dimension in attribute.layout.dimensions:
            for module in filter(None, (model, average)):
                setattr(module.get_submodule(attribute.module), attribute.name, _number(attribute))
    for parameter in model.parameters():
        parameter.grad = None


def _number(attribute: Any) -> int:
    return attribute.layout.size // attribute.divisor


def _fresh(old: Tensor, places: Cuts) -> Tensor:
    """Where the entries are new."""
    return cut(torch.ones(old.shape, device=old.device), places) == 0


def _begin(new: Tensor, old: Tensor, axis: Axis, index: Tensor) -> None:
    """What new channels begin with, in place; zeros are there already."""
    fresh = (index < 0).nonzero()[:, 0].to(new.device)
    if not len(fresh):
        return
    if axis.role == ONES:
        new[fresh] = 1
    elif axis.role == TYPICAL or (axis.role == ROWS and not isinstance(old, nn.Parameter)):  # a fixed filter, say
        new[fresh] = old.mean(0)
    elif axis.role == ROWS:
        scale = old.square().mean().sqrt()
        scale = torch.where(scale > 0, scale, (2 / old[0].numel()) ** 0.5)
        new[fresh] = torch.randn_like(new[fresh]) * scale


class _Tensors:
    """Parameters and buffers of a model by name, whoever holds them."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.owners: dict[int, list[tuple[dict[str, Any], str]]] = {}
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, tensor in tensors.items():
                    if tensor is not None:
                        self.owners.setdefault(id(tensor), []).append((tensors, name))

    def __getitem__(self, name: str) -> Tensor:
        module, _, leaf = name.rpartition(".")
        return getattr(self.model.get_submodule(module), leaf)

    def put(self, name: str, values: Tensor) -> Tensor:
        """Another tensor in the place of one, with all that it is besides its values."""
        old = self[name]
        new = nn.Parameter(values, old.requires_grad) if isinstance(old, nn.Parameter) else values
        new.__dict__.update(old.__dict__)
        for tensors, leaf in self.owners[id(old)]:
            tensors[leaf] = new
        self.owners[id(new)] = self.owners.pop(id(old))
        return new
