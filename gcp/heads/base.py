"""What every head is: an optional reduction, a check of the features, a pooling."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from gcp.errors import ShapeError
from gcp.heads.reduction import create_reduction
from gcp.kernels.triangle import triangle_size
from gcp.ops.covariance import check_map
from gcp.ops.numerics import all_finite, require_finite
from gcp.registry import Registry
from gcp.roots.root import Root


class Head(nn.Module):
    """Feature map (B, C, H, W) -> vector (B, out_features).

    A subclass defines `features` and `pool`. Non-finite features raise in eager mode on the CPU; under
    `torch.compile` and on other devices, where a test would stall, they set the buffer `nonfinite` (a bool of
    shape ()), which stays set until somebody reads and clears it (`gcp.heads.nonfinite`).
    """

    least_samples: ClassVar[int] = 2  # positions of the map that `pool` needs
    own_tensors: ClassVar[tuple[str, ...]] = ()  # names in a state dict, those of the reduction aside
    nonfinite: Tensor

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", **options: Any):
        super().__init__()
        self.in_channels = in_channels
        self.channels = dim or in_channels
        self.out_features = self.features(self.channels, **options)
        self.reduction = create_reduction(reduction, in_channels, dim)
        self.register_buffer("nonfinite", torch.zeros((), dtype=torch.bool), persistent=False)

    @classmethod
    def check(cls, **options: Any) -> None:
        """Raise OptionError for options that do not fit together; each by itself is fine."""

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        """What `out_features` is for maps of so many channels behind the reduction."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Pool a feature map; bfloat16 and float16 features give float32, others keep their dtype.

        Raises:
            ShapeError: not (B, in_channels, H, W), an empty map, or one position where the head needs two.
            NonFiniteError: inf or NaN, or an output that its dtype cannot hold, in eager mode on the CPU.
        """
        check_map(x)
        if x.shape[1] != self.in_channels:
            raise ShapeError(f"the head was built for {self.in_channels} channels, the feature map has {x.shape[1]}.")
        x = self.reduction(x)
        if torch.compiler.is_compiling() or x.device.type != "cpu":
            self.nonfinite.logical_or_(~all_finite(x.detach()))
        else:
            require_finite(x, "where they enter the head, the features of sample")
        pooled = self.pool(x)
        require_finite(pooled, f"the output of {type(self).__name__} leaves {pooled.dtype}: the numbers of sample")
        return pooled

    def pool(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out_features)."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """One line; the reduction is `head.reduction`."""
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        return f"{self.in_channels} channels -> {self.out_features} features"


class RootHead(Head):
    """The triangle of a matrix that is made of the covariance by a `Root`."""

    root: Root

    def embed(self, x: Tensor) -> Tensor:
        """The map that the root is taken of: the features (B, channels, H, W), unless a head adds to them."""
        return x

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        return triangle_size(channels)

    def pool(self, x: Tensor) -> Tensor:
        return self.root.of_features(self.embed(x), packed=True)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self.root.method}, side={self.root.side}"


def nonfinite(module: nn.Module) -> dict[str, Tensor]:
    """Flags (shape ()) of all heads inside `module` by module name; a flag stays set until it is cleared."""
    return {name: m.nonfinite for name, m in module.named_modules() if isinstance(m, Head)}


@dataclass(frozen=True)
class NoOptions:
    """For heads that have no options of their own."""


@dataclass(frozen=True)
class HeadKind:
    """How to build a head: its class, which common arguments it takes, its own options, and what its name fixes."""

    head: type[Head]
    takes: tuple[str, ...] = ()
    options: type[Any] = NoOptions
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def build(self, in_channels: int, dim: int | None = None, reduction: str = "conv", **options: Any) -> Head:
        """The head, with checked options."""
        return self.head(in_channels, dim, reduction, **self.fixed, **options)


HEADS: Registry[HeadKind] = Registry("head")
