"""Which layers of a model can be factored, under which names, and why the others cannot."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from gcp.compress.factored import Factored
from gcp.errors import NonFiniteError, UnknownNameError

# Modules that read the weights of the layers inside them without calling these layers.
READERS = ("MultiheadAttention", "ShiftedWindowAttention", "ShiftedWindowAttentionV2")


@dataclass
class SurveyedLayer:
    """A Linear or Conv2d with every name that it has; `reason` says why it stays as it is, None where it need not."""

    module: Any
    names: list[str] = field(default_factory=list)
    reason: str | None = None

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def kind(self) -> str:
        module = self.module
        if not hasattr(module, "kernel_size"):
            return type(module).__name__
        return f"{type(module).__name__} {'x'.join(map(str, module.kernel_size))}"


def survey(model: nn.Module, include: Sequence[str] | None = None, exclude: Sequence[str] = ()) -> list[SurveyedLayer]:
    """Every Linear, Conv2d and attention of a model, in its order, the root itself under the name "".

    Args:
        model: any module.
        include: shell patterns of names; the others stay as they are. None is all.
        exclude: patterns of names that stay.

    Raises:
        UnknownNameError: a pattern that no layer fits.
        NonFiniteError: a weight with inf or NaN.
    """
    found: dict[int, SurveyedLayer] = {}
    _walk(model, "", None, found)
    layers = list(found.values())
    names = [name for layer in layers for name in layer.names]
    for pattern in [*(include or ()), *exclude]:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise UnknownNameError("layer", pattern, names)
    owners = _owners(model)
    for layer in layers:
        if layer.reason is None:
            layer.reason = _own_reason(layer.module) or _tied(layer.module, owners)
        if layer.reason is None and include is not None and not _fits(layer, include):
            layer.reason = "not included"
        if layer.reason is None and _fits(layer, exclude):
            layer.reason = "excluded"
        if layer.reason is None and not _finite(layer.module.weight):
            raise NonFiniteError(f"the weight of {layer.name or 'the layer'} has inf or NaN")
    return layers


def _walk(module: nn.Module, name: str, reader: str | None, found: dict[int, SurveyedLayer]) -> None:
    reads = type(module).__name__ in READERS
    if isinstance(module, nn.Linear | nn.Conv2d | Factored) or reads:
        layer = found.setdefault(id(module), SurveyedLayer(module))
        layer.names.append(name)
        if reads:
            layer.reason = "attention: its projections are read as matrices"
        elif reader is not None:
            layer.reason = f"its weight is read by {reader} without calling it"
        elif isinstance(module, Factored):
            layer.reason = "factored already"
    if isinstance(module, Factored):
        return
    inside = (name or type(module).__name__) if reads else reader
    for child_name, child in module._modules.items():  # named_children passes over a second name of a module
        if child is not None:
            _walk(child, f"{name}.{child_name}" if name else child_name, inside, found)


def _own_reason(module: Any) -> str | None:
    base = nn.Linear if isinstance(module, nn.Linear) else nn.Conv2d
    if isinstance(module.weight, nn.UninitializedParameter):
        return "its shape is not known before the first call"
    if hasattr(module, "parametrizations"):
        return "its weight is parametrised"
    if type(module).forward is not base.forward:
        return f"{type(module).__name__} has a forward of its own"
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
        return "it has hooks, which would be lost"
    if getattr(module, "groups", 1) > 1:
        return f"{module.groups} groups: each is a small matrix of its own"
    if not module.weight.is_floating_point():
        return f"its weight is {str(module.weight.dtype).removeprefix('torch.')}"
    if module.weight.is_meta:
        return "its weight has no values (device meta)"
    return None


def _finite(weight: Tensor) -> bool:
    return not weight.numel() or all(bool(end.isfinite()) for end in torch.aminmax(weight.detach()))


def _owners(model: nn.Module) -> dict[int, list[tuple[int, str]]]:
    """Parameter -> the modules that hold it."""
    owners: dict[int, list[tuple[int, str]]] = {}
    for name, module in model.named_modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(id(parameter), []).append((id(module), name))
    return owners


def _tied(module: Any, owners: dict[int, list[tuple[int, str]]]) -> str | None:
    others = [name for owner, name in owners[id(module.weight)] if owner != id(module)]
    return f"its weight is shared with {others[0]}, which would keep it" if others else None


def _fits(layer: SurveyedLayer, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in layer.names for pattern in patterns)


def put_in_place(model: nn.Module, names: Sequence[str], new: nn.Module) -> None:
    """Put one module under each of the names, so that what was shared stays shared."""
    for name in names:
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, new)
