"""Layers as products of thinner ones, and what they approximate.

    Linear   y = W x + b,   W (m, n)        ->  up (m, r) . down (r, n) + b
    Conv2d   W (m, c, k, k)                 ->  up (m, r, 1, 1) . down (r, c, k, k) + b            one rank r
                                            ->  up (m, s, 1, 1) . core (s, r, k, k) . down (r, c, 1, 1) + b

The second form of a convolution is Tucker-2 (Kim et al. 2016, arXiv:1511.06530): ranks r of the input channels and s of
the output channels. Stride, dilation and padding go to the one factor with the kernel; a 1x1 convolution without bias
commutes with every kind of padding. A factored layer has `weight` and `bias` like the layer that it replaces: the
weight is the product, computed when somebody reads it.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import OptionError

Ranks = tuple[int, ...]


class Factored(nn.Module):
    """A chain `down`, `core` (Tucker-2 only), `up` in the place of one layer; the bias is in `up`."""

    down: Any
    up: Any

    def forward(self, x: Tensor) -> Tensor:
        for _, factor in self.factors():
            x = factor(x)
        return x

    def factors(self) -> Iterator[tuple[str, Any]]:
        """The layers of the chain by name, in their order."""
        return self.named_children()

    @property
    def ranks(self) -> Ranks:
        """(r,), or (r, s) of Tucker-2."""
        return tuple(int(factor.weight.shape[0]) for name, factor in self.factors() if name != "up")

    @property
    def weight(self) -> Tensor:
        """The product of the factors, in the shape of the layer's own weight."""
        return self._product().reshape(self.shape)

    @property
    def bias(self) -> Tensor | None:
        return self.up.bias

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `weight`."""
        raise NotImplementedError

    def _product(self) -> Tensor:
        return self.up.weight.flatten(1) @ self.down.weight.flatten(1)

    def dense(self) -> nn.Module:
        """The one layer that computes the same."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{tuple(self.shape)} as ranks {' and '.join(map(str, self.ranks))}"


class LowRankLinear(Factored):
    """A Linear of rank r."""

    def __init__(self, layer: nn.Linear, ranks: Ranks):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        place = _place(layer)
        self.down = nn.Linear(layer.in_features, ranks[0], bias=False, **place)
        self.up = nn.Linear(ranks[0], layer.out_features, bias=layer.bias is not None, **place)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.out_features, self.in_features

    def dense(self) -> nn.Module:
        return nn.Linear(self.in_features, self.out_features, self.bias is not None, **_place(self.up))


class FactoredConv2d(Factored):
    """What both forms of a convolution have in common: the settings of the one that they replace."""

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    SETTINGS = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "padding_mode")

    def __init__(self, layer: nn.Conv2d):
        super().__init__()
        self.groups = 1
        for name in self.SETTINGS:
            setattr(self, name, getattr(layer, name))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.out_channels, self.in_channels, *self.kernel_size

    @property
    def settings(self) -> dict[str, Any]:
        """Keyword arguments of the convolution that this replaces, bias aside."""
        return {name: getattr(self, name) for name in self.SETTINGS}

    def dense(self) -> nn.Module:
        return nn.Conv2d(**self.settings, bias=self.bias is not None, **_place(self.up))


class LowRankConv2d(FactoredConv2d):
    """A convolution of rank r: the kernel to r channels, then 1x1."""

    def __init__(self, layer: nn.Conv2d, ranks: Ranks):
        super().__init__(layer)
        place = _place(layer)
        self.down = nn.Conv2d(**self.settings | {"out_channels": ranks[0]}, bias=False, **place)
        self.up = nn.Conv2d(ranks[0], layer.out_channels, 1, bias=layer.bias is not None, **place)


class TuckerConv2d(FactoredConv2d):
    """A convolution of ranks (r, s): 1x1 to r channels, the kernel from r to s, then 1x1."""

    core: Any

    def __init__(self, layer: nn.Conv2d, ranks: Ranks):
        super().__init__(layer)
        place = _place(layer)
        self.down = nn.Conv2d(layer.in_channels, ranks[0], 1, bias=False, **place)
        inner = {"in_channels": ranks[0], "out_channels": ranks[1]}
        self.core = nn.Conv2d(**self.settings | inner, bias=False, **place)
        self.up = nn.Conv2d(ranks[1], layer.out_channels, 1, bias=layer.bias is not None, **place)

    def _product(self) -> Tensor:
        up, down = self.up.weight.flatten(1), self.down.weight.flatten(1)
        return torch.einsum("os,srhw,ri->oihw", up, self.core.weight, down)


def _place(layer: Any) -> dict[str, Any]:
    return {"device": layer.weight.device, "dtype": layer.weight.dtype}


def most(layer: nn.Module) -> Ranks:
    """The greatest rank of W as a matrix (m, n): (min(m, n),)."""
    weight: Any = layer.weight
    return (min(weight.shape[0], weight[0].numel()),)


def create_factored(layer: Any, ranks: Ranks) -> Factored:
    """The factored form of a Linear or Conv2d with fresh weights, frozen and in the mode of the layer.

    Raises OptionError where the layer has no such ranks.
    """
    greatest = (layer.in_channels, layer.out_channels) if isinstance(layer, nn.Conv2d) else ()
    allowed = most(layer) if len(ranks) == 1 else greatest
    if len(ranks) != len(allowed) or not all(1 <= rank <= top for rank, top in zip(ranks, allowed, strict=True)):
        tucker = f" or {greatest[0]}x{greatest[1]}" if greatest else ""
        shown = "x".join(map(str, ranks))
        raise OptionError(f"a layer of shape {_shape(layer)} has ranks up to {most(layer)[0]}{tucker}, got {shown}")
    if len(ranks) == 2:
        return inherit(TuckerConv2d(layer, ranks), layer)
    return inherit((LowRankConv2d if greatest else LowRankLinear)(layer, ranks), layer)


def inherit(new: Any, old: Any) -> Any:
    """`new` in the mode of `old`, its parameters frozen and marked as those of `old`; the bias takes its values."""
    for name, parameter in new.named_parameters():
        source = old.bias if name.rpartition(".")[2] == "bias" else _weight_of(old)
        parameter.requires_grad_(source.requires_grad)
        parameter.__dict__.update(source.__dict__)  # marks such as no_weight_decay
    if old.bias is not None:
        (new.up if isinstance(new, Factored) else new).bias.data.copy_(old.bias.data)
    return new.train(old.training)


def _weight_of(layer: Any) -> Any:
    return layer.up.weight if isinstance(layer, Factored) else layer.weight


def _shape(layer: Any) -> str:
    return "x".join(map(str, layer.weight.shape))
