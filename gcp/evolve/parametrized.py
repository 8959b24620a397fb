"""Weights that are computed from others, edited as the plain weights that they stand for.

While `plain_weights` is open a layer has its weight W as a parameter, and on the way out what W is computed from is set
so that W is what the edit has made of it:

    weight norm      W = g v / |v|, with a g for each row (or one for all): any W. A row keeps the ratio of its lengths
    spectral norm    W = V / sigma(V), as by torch, or by `gcp.layers.spectral_norm` without `size`

both as parametrisations and as the older hooks of `torch.nn.utils`. Weight norm reaches every W. Of a spectral norm
sigma must not move. New rows are E S with |E| <= 1 and S = (c^2 s^2 I - W^T W)_+^(1/2), s the norm of W: nothing in the
directions in which W is larger than c s, and at most c s in all with W in the others. Where channels are gone W is
divided by what is left of its norm before the layers behind it are fitted. So no factor of W can be asked for: widths
of which an attention or a layer norm needs one stay.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from gcp.evolve.channel_graph.dimension import Dimension
from gcp.evolve.channel_graph.graph import ROWS, Graph
from gcp.evolve.edit import Cuts, OptimizerState, cut
from gcp.layers.cache import MatrixCache
from gcp.layers.spectral_norm import BlockWeight, PowerWeight, as_block, as_matrix, largest

QUIET = 0.7  # of the norm: directions in which W is smaller have room for new rows
STEPS = 30  # power iterations where the norm has moved


@dataclass
class PlainWeight:
    """What a weight stands for while it is a plain parameter, as its attribute `stands_for`.

    Attributes:
        tensors: parameters and buffers from which it is computed, by what they are: `g`, `v`, and of a spectral norm
            the vectors of the power iteration, `left` (rows,) and `right` (columns,).
        holders: the dictionaries that hold them, with their keys.
        axis: of the rows, -1 where all of the weight is one.
        sigma: of a spectral norm: (matrix) -> the norm by which it divides; None for weight norm.
        values: of the weight before any edit.
        cuts: of its axes, in order, as `gcp.evolve.edit` makes them.
    """

    holders: dict[str, tuple[dict[str, Any], str]]
    axis: int
    sigma: Callable[[Tensor], Tensor] | None
    values: Tensor
    cuts: Cuts = field(default_factory=list)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {name: tensors[key] for name, (tensors, key) in self.holders.items()}

    @property
    def extra(self) -> int:
        """Parameters beside one for each entry of the weight."""
        rows = [len(index) for axis, index in self.cuts if axis == self.axis]
        return (rows[-1] if rows else self.tensors["g"].numel()) if "g" in self.holders else 0

    def original(self) -> list[nn.Parameter]:
        return [tensor for tensor in self.tensors.values() if isinstance(tensor, nn.Parameter)]

    def put(self, weight: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
        """Set everything so that the weight is this one."""
        old = {name: tensor.detach() for name, tensor in self.tensors.items()}
        made = self._spectral(weight, old) if self.sigma is not None else self._normed(weight, old)
        for name, values in made.items():
            tensors, key = self.holders[name]
            before = tensors[key]
            values = values.to(before.dtype)
            if isinstance(before, nn.Parameter):
                state, axis = OptimizerState(optimizer, {}), self.axis
                alone = before.shape != self.values.shape  # g
                cuts = [(a, i) for a, i in self.cuts if not alone or a == axis]
                tensors[key] = nn.Parameter(values, before.requires_grad)
                tensors[key].__dict__.update(before.__dict__)
                state.carry(before, tensors[key], lambda moment, cuts=cuts: cut(moment, cuts))  # type: ignore[misc]
            else:
                tensors[key] = values

    def _rows(self, tensor: Tensor) -> Tensor:
        """(rows, columns)."""
        return tensor.flatten()[None] if self.axis < 0 else tensor.movedim(self.axis, 0).flatten(1)

    def _like(self, rows: Tensor, shape: torch.Size) -> Tensor:
        if self.axis < 0:
            return rows.view(shape)
        return rows.view(shape[self.axis], *(n for a, n in enumerate(shape) if a != self.axis)).movedim(0, self.axis)

    def _normed(self, weight: Tensor, old: dict[str, Tensor]) -> dict[str, Tensor]:
        whole, W = self._rows(cut(self.values, self.cuts)), self._rows(weight)
        v, g = old["v"], old["g"].flatten()
        lengths = self._rows(v).norm(dim=1)
        ratio = torch.where(g != 0, lengths / torch.where(g != 0, g, 1), lengths)  # its sign is that of g
        if self.axis >= 0:
            typical = ratio.abs().mean()
            for axis, index in self.cuts:
                if axis == self.axis:
                    index = index.to(ratio.device)
                    lengths, g = lengths[index.clamp(min=0)], g[index.clamp(min=0)]
                    ratio = torch.where(index >= 0, ratio[index.clamp(min=0)], typical)
        v = self._rows(cut(v, self.cuts))
        same = (whole == W).all(1) & (v.norm(dim=1) == lengths)  # they stay to the bit
        none = W.norm(dim=1) == 0
        start = torch.where(v.any(1, keepdim=True), v, W.shape[1] ** -0.5)  # of a row of zeros
        made = torch.where(same[:, None], v, torch.where(none[:, None], start, W * ratio[:, None]))
        length = torch.where(same, g, W.norm(dim=1) * torch.where(ratio < 0, -1.0, 1.0).to(W))
        shape = list(old["g"].shape)
        if self.axis >= 0 and shape:
            shape[self.axis] = len(length)
        return {"v": self._like(made, weight.shape), "g": length.view(shape)}

    def _spectral(self, weight: Tensor, old: dict[str, Tensor]) -> dict[str, Tensor]:
        scale = old["v"].norm() / self.values.norm().clamp(min=1e-30)
        made = {"v": weight * scale}
        rows, columns = [(a, i) for a, i in self.cuts if a == 0], [(a, i) for a, i in self.cuts if a != 0]
        vectors: dict[str, Tensor] = {name: old[name] for name in ("left", "right") if name in old}
        if vectors and self.cuts:
            if "left" in vectors:
                vectors["left"] = cut(vectors["left"], rows)
            vectors["right"] = cut(vectors["right"].view_as(self.values[:1]), columns).flatten()
        if vectors:
            W = weight.flatten(1)
            before = _estimate(self.values.flatten(1), old) / _largest(self.values)
            if (_estimate(W, vectors) / _largest(weight) - before).abs() > 1e-4 * before:
                right = largest_direction(W)
                vectors = {"left": W @ right / (W @ right).norm().clamp(min=1e-30), "right": right}
        return made | {name: vector for name, vector in vectors.items() if name in self.holders}


def _estimate(W: Tensor, vectors: dict[str, Tensor]) -> Tensor:
    """The norm that a power iteration takes for that of W."""
    product = W @ vectors["right"].to(W)
    return product @ vectors["left"].to(W) if "left" in vectors else product.norm()


def _largest(weight: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(weight.flatten(1).double(), 2).to(weight).clamp(min=1e-30)


def largest_direction(W: Tensor) -> Tensor:
    """(columns,) the right singular vector of the largest singular value."""
    return torch.linalg.svd(W.double(), full_matrices=False)[2][0].to(W)


@contextmanager
def plain_weights(
    models: nn.Module | Iterable[nn.Module], optimizer: torch.optim.Optimizer | None = None
) -> Iterator[None]:
    """Layers have their weights as parameters, whatever these are computed from, if that can be set to any value or
    norm; what was edited is computed anew afterwards, and the rest is as it was, to the bit.

    Args:
        models: edited in place.
        optimizer: of the first model; it follows.
    """
    hidden: list[tuple[nn.Module, Callable[[], None]]] = []
    try:
        for number, model in enumerate([models] if isinstance(models, nn.Module) else models):
            for module in model.modules():
                if (show := _hide(module, None if number else optimizer)) is not None:
                    hidden.append((module, show))
        yield
    finally:
        for _, show in hidden:
            show()


def _hide(module: nn.Module, optimizer: torch.optim.Optimizer | None) -> Callable[[], None] | None:
    """Make the weight of one layer plain; returns how to compute it again. None where there is nothing to do."""
    lists = module._modules.get("parametrizations")
    if isinstance(lists, nn.ModuleDict):
        return _hide_list(module, lists, optimizer)
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, WeightNorm | SpectralNorm) and hook.name == "weight":
            return _hide_hook(module, key, hook, optimizer)
    return None


def _hide_list(module: nn.Module, lists: nn.ModuleDict, optimizer: Any) -> Callable[[], None] | None:
    if list(lists) != ["weight"] or len(lists["weight"]) != 1:  # type: ignore[arg-type]
        return None
    made, kind = lists["weight"], lists["weight"][0]  # type: ignore[index]
    own: dict[str, Any] = made._parameters
    holders: dict[str, tuple[dict[str, Any], str]]
    sigma: Callable[[Tensor], Tensor] | None
    if isinstance(kind, _WeightNorm):
        holders = {"g": (own, "original0"), "v": (own, "original1")}
        axis, sigma = kind.dim, None
    elif isinstance(kind, _SpectralNorm) and kind.dim == 0 and hasattr(kind, "_u"):
        holders = {"v": (own, "original"), "left": (kind._buffers, "_u"), "right": (kind._buffers, "_v")}
        axis, sigma = 0, _largest
    elif isinstance(kind, BlockWeight) and kind.blocks is as_block:
        holders, axis, norm = {"v": (own, "original")}, 0, kind.norm
        sigma = _largest if norm is largest else lambda W: norm(as_block(W))
    elif isinstance(kind, PowerWeight) and kind.multiply is as_matrix:
        holders, axis, sigma = {"v": (own, "original"), "right": (kind._buffers, "v")}, 0, _largest
    else:
        return None
    training = kind.training
    kind.eval()  # no power iteration
    with torch.no_grad():
        values = module.weight.detach().clone()  # type: ignore[union-attr,operator]
    kind.training = training
    parametrised = type(module)
    plain = _plain(values, PlainWeight(holders, axis, sigma, values.clone()))
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module._modules["parametrizations"]
    module._parameters["weight"] = plain

    def show() -> None:
        weight: Any = module._parameters.pop("weight")
        module.__class__ = parametrised
        module._modules["parametrizations"] = lists
        if not _untouched(weight):
            weight.stands_for.put(weight.detach(), optimizer)
            if isinstance(kind, BlockWeight | PowerWeight):
                kind.shape, kind.rows, kind.columns = weight.shape, len(weight), weight[0].numel()
                kind._cache = MatrixCache()

    return show


def _hide_hook(module: nn.Module, key: int, hook: Any, optimizer: Any) -> Callable[[], None] | None:
    own: dict[str, Any] = module._parameters
    holders: dict[str, tuple[dict[str, Any], str]]
    sigma: Callable[[Tensor], Tensor] | None
    options: tuple[bool, ...]
    if isinstance(hook, WeightNorm):
        holders = {"g": (own, "weight_g"), "v": (own, "weight_v")}
        axis, sigma, options = hook.dim, None, ()
    elif hook.dim == 0:
        buffers = module._buffers
        holders = {"v": (own, "weight_orig"), "left": (buffers, "weight_u"), "right": (buffers, "weight_v")}
        axis, sigma, options = 0, _largest, (False,)
    else:
        return None
    with torch.no_grad():
        values = hook.compute_weight(module, *options).detach().clone()
    order, shown = list(own), module.__dict__.pop("weight", None)
    hooks = list(module._forward_pre_hooks.items())
    kept = {name: module.__dict__["_parameters"].pop(name) for name in order if name in ("weight_g", "weight_orig")}
    if isinstance(hook, WeightNorm):
        kept["weight_v"] = own.pop("weight_v")
    holders = {name: ((kept, k) if t is own else (t, k)) for name, (t, k) in holders.items()}
    del module._forward_pre_hooks[key]
    own["weight"] = _plain(values, PlainWeight(holders, axis, sigma, values.clone()))

    def show() -> None:
        weight: Any = own.pop("weight")
        touched = not _untouched(weight)
        if touched:
            weight.stands_for.put(weight.detach(), optimizer)
        rest = dict(own)
        own.clear()
        own.update({name: kept.get(name, rest.get(name)) for name in order})
        module._forward_pre_hooks.clear()
        module._forward_pre_hooks.update(hooks)
        with torch.no_grad():
            module.__dict__["weight"] = hook.compute_weight(module, *options).detach() if touched else shown

    return show


def _plain(values: Tensor, stands_for: PlainWeight) -> nn.Parameter:
    plain: Any = nn.Parameter(values, stands_for.tensors["v"].requires_grad)
    plain.stands_for = stands_for
    return plain


def _untouched(weight: Any) -> bool:
    return weight.shape == weight.stands_for.values.shape and torch.equal(weight, weight.stands_for.values)


def stands_for(tensor: object) -> PlainWeight | None:
    """What a parameter stands for within `plain_weights`, None for any other."""
    return getattr(tensor, "stands_for", None)


def is_bounded(tensor: object) -> bool:
    """Whether a weight has a spectral norm that cannot be set."""
    plain = stands_for(tensor)
    return plain is not None and plain.sigma is not None


def count_parameters(model: nn.Module) -> int:
    """Those of the model as it is outside of `plain_weights`."""
    return sum(p.numel() + (plain.extra if (plain := stands_for(p)) else 0) for p in model.parameters())


@torch.no_grad()
def keep_spectral_norms(model: nn.Module, dimension: Dimension, source: Tensor, before: int) -> None:
    """After an edit of `dimension`: weights with a spectral norm have it still, in place. The arguments are those of
    `gcp.evolve.norms.keep_norms`.
    """
    for axis in dimension.graph.touching(dimension):
        weight = getattr(model.get_submodule(axis.module), axis.tensor.rpartition(".")[2])
        if not is_bounded(weight):
            continue
        new = axis.layout.index(dimension, source) < 0
        if len(source) < before:
            settle_norm(weight)
        elif new.any() and axis.role == ROWS and axis.axis == 0:
            W = weight.flatten(1).double()
            old, fresh = W[~new], W[new]
            norm = torch.linalg.matrix_norm(old, 2).clamp(min=1e-30)
            _, values, directions = torch.linalg.svd(old / norm, full_matrices=False)
            room = (QUIET**2 - values.square()).clamp(min=0).sqrt()
            fresh = fresh / torch.linalg.matrix_norm(fresh, 2).clamp(min=1)
            fresh = QUIET * fresh + (fresh @ directions.mT * (room - QUIET)) @ directions
            weight[new] = (norm * fresh).view_as(weight[new]).to(weight)


@torch.no_grad()
def settle_norm(weight: Any) -> None:
    """Give a weight with a spectral norm the norm that it had, in place; any other stays."""
    if is_bounded(weight):
        sigma, values = weight.stands_for.sigma, weight.stands_for.values
        weight.mul_(sigma(values) / sigma(weight).clamp(min=1e-30))


def freeze_scaled(graph: Graph, bounded: set[str]) -> None:
    """Widths that need a factor of a weight whose norm cannot be set cannot be edited.

    Args:
        graph: of the model.
        bounded: names of the weights with a spectral norm.
    """
    norms = {each: "a layer norm" for norm in graph.layer_norms for each in norm.layout.dimensions}
    parts = [part for a in graph.attentions for part in (a.query, a.key, a.value) if part is not None]
    heads = {each: "an attention" for part in parts for each in part.layout.dimensions}
    for axis in graph.axes.values():
        for dimension in axis.layout.dimensions if axis.tensor in bounded else ():
            if what := (norms | heads).get(dimension):
                dimension.freeze(f"{what} needs a factor of {axis.tensor}, whose spectral norm is fixed")
