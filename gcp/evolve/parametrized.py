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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm, _WeightNorm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from gcp.evolve.calls import at_rest
from gcp.evolve.channel_graph.dimension import Dimension
from gcp.evolve.channel_graph.graph import ROWS, Graph
from gcp.evolve.edit import Cuts, OptimizerState, cut, in_format
from gcp.layers.cache import MatrixCache
from gcp.layers.spectral_norm import BlockWeight, PowerWeight, as_block, as_matrix, largest

QUIET = 0.7  # of the norm: directions in which W is smaller have room for new rows
CLOSE = 1e-4  # relative: a norm by power iterations that is off by no more stays what it is


Holders = dict[str, tuple[dict[str, Any], str]]
Sigma = Callable[[Tensor], Tensor]
Shared = dict[nn.Module, nn.Parameter]  # parametrisation -> what it is for now, for all layers that have it


@dataclass
class PlainWeight:
    """What a weight stands for while it is a plain parameter, as its attribute `stands_for`.

    Attributes:
        tensors: parameters and buffers from which it is computed, by what they are: `g`, `v`, and of a spectral norm
            the vectors of the power iteration, `left` (rows,) and `right` (columns,).
        holders: the dictionaries that hold them, with their keys.
        axis: of the rows, -1 where all of the weight is one.
        sigma: of a spectral norm: (weight) -> the norm by which it divides; None for weight norm.
        values: of the weight before any edit.
        version: of the parameter then, which every edit in place counts up.
        cuts: of its axes, in order, as `gcp.evolve.edit` makes them.
    """

    holders: Holders
    axis: int
    sigma: Sigma | None
    values: Tensor
    version: int
    cuts: Cuts = field(default_factory=list)

    @property
    def tensors(self) -> dict[str, Tensor]:
        return {name: tensors[key] for name, (tensors, key) in self.holders.items()}

    @property
    def extra(self) -> int:
        """Parameters beside one for each entry of the weight."""
        return len(self._rows_from()) if "g" in self.holders else 0

    def changed(self, weight: Tensor) -> bool:
        return bool(self.cuts) or weight._version != self.version

    def original(self) -> list[nn.Parameter]:
        """The parameters from which it is computed."""
        return [tensor for tensor in self.tensors.values() if isinstance(tensor, nn.Parameter)]

    def put(self, weight: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
        """Set everything so that the weight is this one."""
        old = {name: tensor.detach() for name, tensor in self.tensors.items()}
        made = self._spectral(weight, old) if self.sigma is not None else self._normed(weight, old)
        state = OptimizerState(optimizer)
        for name, values in made.items():
            tensors, key = self.holders[name]
            before = tensors[key]
            tensors[key] = values = in_format(values.to(before.dtype), before)
            if isinstance(before, nn.Parameter):
                tensors[key] = new = nn.Parameter(values, before.requires_grad)
                new.__dict__.update(before.__dict__)
                cuts = self._row_cuts() if name == "g" else self.cuts
                state.carry(before, new, lambda moment, cuts=cuts: cut(moment, cuts))  # type: ignore[misc]
        self.cuts, self.version = [], weight._version  # another layer may have the same

    def _row_cuts(self) -> Cuts:
        return [(axis, index) for axis, index in self.cuts if axis == self.axis]

    def _rows_from(self) -> Tensor:
        """(rows,) for each row the old one that it continues, -1 for a new one."""
        rows = torch.arange(1, 1 + self.tensors["g"].numel(), device=self.values.device)
        return cut(rows, [(0, index) for _, index in self._row_cuts()]) - 1

    def _rows(self, tensor: Tensor) -> Tensor:
        """(rows, columns)."""
        return tensor.flatten()[None] if self.axis < 0 else tensor.movedim(self.axis, 0).flatten(1)

    def _like(self, rows: Tensor, shape: torch.Size) -> Tensor:
        if self.axis < 0:
            return rows.view(shape)
        return rows.view(shape[self.axis], *(n for a, n in enumerate(shape) if a != self.axis)).movedim(0, self.axis)

    def _normed(self, weight: Tensor, old: dict[str, Tensor]) -> dict[str, Tensor]:
        g, lengths, source = old["g"].flatten(), self._rows(old["v"]).norm(dim=1), self._rows_from()
        ratio = torch.where(g != 0, lengths / torch.where(g != 0, g, 1), lengths)  # its sign is that of g
        ratio = torch.where(source >= 0, ratio[source], ratio.abs().mean())
        W, before, v = (self._rows(x) for x in (weight, cut(self.values, self.cuts), cut(old["v"], self.cuts)))
        same = (before == W).all(1)  # they stay to the bit
        made = torch.where(same[:, None], v, W * ratio[:, None])
        start = torch.where(v.any(1, keepdim=True), v, W.shape[1] ** -0.5)
        made = torch.where(made.any(1, keepdim=True), made, start)  # a row of zeros has no direction
        same &= (source >= 0) & (made.norm(dim=1) == lengths[source])
        g = torch.where(same, g[source], W.norm(dim=1) * torch.where(ratio < 0, -1.0, 1.0).to(W))
        shape = [-1 if axis == self.axis else n for axis, n in enumerate(old["g"].shape)]
        return {"v": self._like(made, weight.shape), "g": g.view(shape)}

    def _spectral(self, weight: Tensor, old: dict[str, Tensor]) -> dict[str, Tensor]:
        scale = old["v"].norm() / self.values.norm().clamp(min=1e-30)
        same = weight == cut(self.values, self.cuts)
        made = {"v": torch.where(same, cut(old["v"], self.cuts), weight * scale)}
        vectors = {name: tensor.double() for name, tensor in old.items() if name != "v"}
        if vectors:
            norm = _estimate(self.values, vectors)  # 1, but for rounding
            columns = [(axis, index) for axis, index in self.cuts if axis != 0]
            vectors["right"] = cut(vectors["right"].view_as(self.values[:1]), columns).flatten()
            if "left" in vectors:
                vectors["left"] = cut(vectors["left"], self._row_cuts())
            if (_estimate(weight, vectors) - norm).abs() > CLOSE * norm.abs():
                vectors = dict(zip(("left", "right"), vectors_of(weight, norm), strict=True))
        return made | {name: vector for name, vector in vectors.items() if name in old}


def _estimate(weight: Tensor, vectors: dict[str, Tensor]) -> Tensor:
    """The norm that a power iteration takes for that of a weight; float64."""
    product = weight.flatten(1).double() @ vectors["right"]
    return product @ vectors["left"] if "left" in vectors else product.norm()


def vectors_of(weight: Tensor, norm: Tensor) -> tuple[Tensor, Tensor]:
    """Unit vectors (rows,) and (columns,), float64, by which a power iteration takes the norm of a weight for `norm`.

    They are the singular vectors where it is, and as near to them as can be where it is larger: where the iterations
    had not found it, they have not found it now either.
    """
    W = weight.flatten(1).double()
    _, values, directions = torch.linalg.svd(W, full_matrices=False)
    most, least = values[0] ** 2, values[-1] ** 2
    share = ((norm**2 - least) / (most - least)).nan_to_num(1).clamp(0, 1)
    right = share.sqrt() * directions[0] + (1 - share).sqrt() * directions[-1]
    right = right / right.norm()
    product = W @ right
    return product / product.norm().clamp(min=1e-30), right


def _largest(weight: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(weight.flatten(1).double(), 2).to(weight).clamp(min=1e-30)


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
    shared: Shared = {}
    with ExitStack() as stack:
        for number, model in enumerate([models] if isinstance(models, nn.Module) else models):
            for module in model.modules():
                if (show := _hide(module, None if number else optimizer, shared)) is not None:
                    stack.callback(show)
        yield


def _hide(module: nn.Module, optimizer: torch.optim.Optimizer | None, shared: Shared) -> Callable[[], None] | None:
    """Make the weight of one layer plain; returns how to compute it again. None where there is nothing to do."""
    lists = module._modules.get("parametrizations")
    if isinstance(lists, nn.ModuleDict):
        return _hide_list(module, lists, optimizer, shared)
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, WeightNorm | SpectralNorm) and hook.name == "weight":
            return _hide_hook(module, key, hook, optimizer)
    return None


def _hide_list(module: Any, lists: nn.ModuleDict, optimizer: Any, shared: Shared) -> Callable[[], None] | None:
    made: Any = lists["weight"] if list(lists) == ["weight"] else []
    if len(made) != 1 or (known := _holders(made[0], made._parameters)) is None:
        return None
    kind = made[0]
    if made not in shared:
        with at_rest(kind):  # no power iteration
            shared[made] = _plain(module.weight.detach().clone(), *known)
    parametrised = type(module)
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module._modules["parametrizations"]
    module._parameters["weight"] = shared[made]

    def show() -> None:
        weight: Any = module._parameters.pop("weight")
        module.__class__ = parametrised
        module._modules["parametrizations"] = lists
        if weight.stands_for.changed(weight):
            weight.stands_for.put(weight.detach(), optimizer)
            if isinstance(kind, BlockWeight | PowerWeight):
                kind.shape, kind.rows, kind.columns = weight.shape, len(weight), weight[0].numel()
                kind._cache = MatrixCache()

    return show


def _holders(kind: nn.Module, own: dict[str, Any]) -> tuple[Holders, int, Sigma | None] | None:
    """Of a parametrisation with these parameters: the first attributes of `PlainWeight`; None of any other."""
    if isinstance(kind, _WeightNorm):
        return {"g": (own, "original0"), "v": (own, "original1")}, kind.dim, None
    holders: Holders = {"v": (own, "original")}
    if isinstance(kind, _SpectralNorm) and kind.dim == 0 and hasattr(kind, "_u"):
        return holders | {"left": (kind._buffers, "_u"), "right": (kind._buffers, "_v")}, 0, _largest
    if isinstance(kind, BlockWeight) and kind.blocks is as_block:
        norm = kind.norm
        return holders, 0, _largest if norm is largest else lambda W: norm(as_block(W))
    if isinstance(kind, PowerWeight) and kind.multiply is as_matrix:
        return holders | {"right": (kind._buffers, "v")}, 0, _largest
    return None


def _hide_hook(module: nn.Module, key: int, hook: Any, optimizer: Any) -> Callable[[], None] | None:
    weighted = isinstance(hook, WeightNorm)
    if not weighted and hook.dim != 0:
        return None
    own: dict[str, Any] = module._parameters
    options = () if weighted else (False,)  # no power iteration
    with torch.no_grad():
        values = hook.compute_weight(module, *options).detach().clone()
    order, shown, hooks = list(own), module.__dict__.pop("weight"), list(module._forward_pre_hooks.items())
    kept = {name: own.pop(name) for name in order if name in ("weight_g", "weight_v", "weight_orig")}
    del module._forward_pre_hooks[key]
    if weighted:
        holders: Holders = {"g": (kept, "weight_g"), "v": (kept, "weight_v")}
    else:
        buffers = module._buffers
        holders = {"v": (kept, "weight_orig"), "left": (buffers, "weight_u"), "right": (buffers, "weight_v")}
    own["weight"] = _plain(values, holders, *((hook.dim, None) if weighted else (0, _largest)))

    def show() -> None:
        weight: Any = own.pop("weight")
        changed = weight.stands_for.changed(weight)
        if changed:
            weight.stands_for.put(weight.detach(), optimizer)
        rest = dict(own)
        own.clear()
        own.update({name: kept.get(name, rest.get(name)) for name in order})
        module._forward_pre_hooks.clear()
        module._forward_pre_hooks.update(hooks)
        with torch.no_grad():
            module.__dict__["weight"] = hook.compute_weight(module, *options).detach() if changed else shown

    return show


def _plain(values: Tensor, holders: Holders, axis: int, sigma: Sigma | None) -> nn.Parameter:
    tensors, key = holders["v"]
    plain: Any = nn.Parameter(values, tensors[key].requires_grad)
    plain.stands_for = PlainWeight(holders, axis, sigma, values.clone(), plain._version)
    return plain


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
