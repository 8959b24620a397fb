"""One dimension of a model gets other channels: every tensor, every number and the optimizer's state with it.

Of the optimizer's state (momentum, moments of Adam and their like) a tensor of the parameter's shape is cut and padded
as the parameter is, and new entries are zero; a single number, such as the count of steps, stays.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import OptionError
from gcp.evolve.channel_graph.dimension import Dimension
from gcp.evolve.channel_graph.graph import ONES, ROWS, TYPICAL, Axis


class OptimizerState:
    """What an optimizer keeps of its parameters.

    Args:
        optimizer: any of torch's kind; None where there is none.
        names: id of a parameter -> its name, of all those that are about to change.

    Raises:
        OptionError: it keeps tensors of other shapes, whose channels are unknown, or lists of tensors.
    """

    def __init__(self, optimizer: torch.optim.Optimizer | None, names: Mapping[int, str] = {}):
        self.optimizer = optimizer
        groups = optimizer.param_groups if optimizer is not None else []
        for parameter in (p for group in groups for p in group["params"] if id(p) in names):
            for key, value in self._state(parameter).items():
                if not _single(value) and not _alike(value, parameter):
                    shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
                    raise OptionError(
                        f"optimizer {type(optimizer).__name__} keeps {key!r} of {names[id(parameter)]} as {shape}, not "
                        f"in its shape {tuple(parameter.shape)}: it cannot follow a change of widths. Those that can "
                        "are sgd, adam, adamw and others with one value for each weight"
                    )

    def _state(self, parameter: Tensor) -> dict[str, Any]:
        assert self.optimizer is not None
        return self.optimizer.state.get(parameter, {})

    def reset(self, parameters: Iterable[Tensor | None]) -> None:
        """What it keeps of these begins at zero; single numbers stay."""
        for parameter in (each for p in parameters if p is not None and self.optimizer for each in originals(p)):
            for value in self._state(parameter).values():
                if _alike(value, parameter):
                    value.zero_()

    def carry(self, old: Tensor, new: Tensor, cut: Callable[[Tensor], Tensor]) -> None:
        """`new` takes the place of `old`; `cut` maps a tensor of the old shape to one of the new."""
        if self.optimizer is None:
            return
        for group in self.optimizer.param_groups:
            group["params"][:] = [new if parameter is old else parameter for parameter in group["params"]]
        state = self.optimizer.state.pop(old, None)
        if state is not None:
            self.optimizer.state[new] = {k: cut(v) if _alike(v, old) else v for k, v in state.items()}


def originals(parameter: Tensor) -> list[Tensor]:
    """What an optimizer has in the place of a parameter: itself, or what it is computed from outside of
    `gcp.evolve.parametrized.plain_weights`.
    """
    plain = getattr(parameter, "stands_for", None)
    return [parameter] if plain is None else plain.original()


def _single(value: object) -> bool:
    return value.numel() == 1 if isinstance(value, Tensor) else isinstance(value, bool | int | float | str | None)


def _alike(value: object, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == parameter.shape


Cuts = list[tuple[int, Tensor]]


def cut(tensor: Tensor, cuts: Cuts) -> Tensor:
    """Entries by (axis, index): where an index is -1 there are zeros. In the memory format of `tensor`."""
    new = tensor
    for axis, index in cuts:
        new = new.index_select(axis, index.clamp(min=0).to(tensor.device))
        new.index_fill_(axis, (index < 0).nonzero()[:, 0].to(tensor.device), 0)
    return in_format(new, tensor)


def in_format(values: Tensor, like: Tensor) -> Tensor:
    """Values in the memory format of another tensor."""
    if like.ndim == 4 and not like.is_contiguous() and like.is_contiguous(memory_format=torch.channels_last):
        return values.contiguous(memory_format=torch.channels_last)
    return values


@dataclass(frozen=True)
class LinkedState:
    """What changes along with the model: `optimizer` of its parameters, `average` of its weights."""

    optimizer: torch.optim.Optimizer | None = None
    average: nn.Module | None = None

    def models(self, model: nn.Module) -> list[nn.Module]:
        """The model, and its average where there is one."""
        return [model] if self.average is None else [model, self.average]


def linked_state(optimizer: torch.optim.Optimizer | None, ema: Any) -> LinkedState:
    """`ema` may be a module, or an object that holds one as `module`."""
    average = ema if ema is None or isinstance(ema, nn.Module) else getattr(ema, "module", None)
    if ema is not None and not isinstance(average, nn.Module):
        raise OptionError(f"ema is {type(ema).__name__}; allowed: a module, or an object with one as .module")
    return LinkedState(optimizer, average)


@torch.no_grad()
def edit(model: nn.Module, dimension: Dimension, source: Tensor, linked: LinkedState = LinkedState()) -> None:
    """Give a dimension the channels of `source`, in place.

    Weights that read new channels have zeros there, those that write them values of the scale of the present ones,
    batch norms pass them on as they are. What stays is bit-identical, in the state of the optimizer too, where the
    new begins with zeros. Parameters are replaced, in the groups of the optimizer as well; gradients are cleared.

    Args:
        model: any module.
        dimension: of `trace(model)`.
        source: (new width,), for each new channel the old one that it continues, -1 for a new one.
        linked: what changes with it.

    Raises:
        OptionError: the optimizer keeps state whose channels are unknown.
    """
    graph = dimension.graph
    axes: dict[str, list[Axis]] = {}
    for axis in graph.touching(dimension):
        axes.setdefault(axis.tensor, []).append(axis)
    cuts = {name: [(axis.axis, axis.layout.index(dimension, source)) for axis in axes[name]] for name in axes}
    own, average = _Tensors(model), linked.average
    theirs = _Tensors(average) if average is not None else None
    moments = OptimizerState(linked.optimizer, {id(own[name]): name for name in cuts})
    for name, places in cuts.items():
        old = own[name]
        new = cut(old, places)
        for axis, (_, index) in zip(axes[name], places, strict=True):
            _begin(new, old, axis, index)
        if theirs is not None:
            theirs.put(name, torch.where(_fresh(old, places), new.to(theirs[name]), cut(theirs[name], places)))
        put = own.put(name, new)
        moments.carry(old, put, lambda state, places=places: cut(state, places))  # type: ignore[misc]
        changed: list[Any] = [put] if theirs is None else [put, theirs[name]]
        for plain in changed:
            if hasattr(plain, "stands_for"):  # see gcp.evolve.parametrized
                plain.stands_for.cuts.extend(places)
    dimension.width = len(source)
    for attribute in graph.attributes.values():
        if dimension in attribute.layout.dimensions:
            for module in filter(None, (model, average)):
                setattr(module.get_submodule(attribute.module), attribute.name, attribute.rule(attribute.layout.size))
    for parameter in model.parameters():
        for original in originals(parameter):
            original.grad = None


def _fresh(old: Tensor, places: Cuts) -> Tensor:
    """Where the entries are new."""
    return cut(torch.ones(old.shape, device=old.device), places) == 0


def _begin(new: Tensor, old: Tensor, axis: Axis, index: Tensor) -> None:
    """What new channels begin with, in place; zeros are there already."""
    trained, fresh = isinstance(old, nn.Parameter), (index < 0).nonzero()[:, 0].to(new.device)
    if not len(fresh):
        return
    new, old = new.transpose(0, axis.axis), old.transpose(0, axis.axis)
    if axis.role == ONES:
        new[fresh] = 1
    elif axis.role == TYPICAL or (axis.role == ROWS and not trained):  # a fixed filter, say
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
