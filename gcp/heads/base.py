"""What every head is: an optional reduction, a check of the features, a pooling."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import ShapeError
from gcp.heads.reduction import create_reduction
from gcp.ops.covariance import check_map
from gcp.ops.finite import all_finite, require_finite
from gcp.registry import Registry


class Head(nn.Module):
    """Feature map (B, C, H, W) -> vector (B, out_features).

    A subclass sets `out_features` and defines `pool`. Non-finite features raise in eager mode on the CPU; under
    `torch.compile` and on other devices, where a test would stall, they set the buffer `nonfinite` (a bool of
    shape ()), which stays set until somebody reads and clears it (`gcp.heads.nonfinite`).
    """

    out_features: int
    least_samples = 2  # positions of the map that `pool` needs
    nonfinite: Tensor

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv"):
        super().__init__()
        self.in_channels = in_channels
        self.channels = dim or in_channels
        self.reduction = create_reduction(reduction, in_channels, dim)
        self.register_buffer("nonfinite", torch.zeros((), dtype=torch.bool), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Pool a feature map; bfloat16 and float16 features give float32, others keep their dtype.

        Raises:
            ShapeError: not (B, in_channels, H, W), an empty map, or one position where the head needs two.
            NonFiniteError: inf or NaN, in eager mode on the CPU.
        """
        check_map(x)
        if x.shape[1] != self.in_channels:
            raise ShapeError(f"the head was built for {self.in_channels} channels, the feature map has {x.shape[1]}.")
        x = self.reduction(x)
        if torch.compiler.is_compiling() or x.device.type != "cpu":
            self.nonfinite.logical_or_(~all_finite(x.detach()))
        else:
            require_finite(x, "where they enter the head, the features of sample")
        return self.pool(x)

    def pool(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, out_features)."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """One line; the reduction is `head.reduction`."""
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        return f"{self.in_channels} channels -> {self.out_features} features"


def nonfinite(module: nn.Module) -> dict[str, Tensor]:
    """Flags (shape ()) of all heads inside `module` by module name; a flag stays set until it is cleared."""
    return {name: m.nonfinite for name, m in module.named_modules() if isinstance(m, Head)}


@dataclass(frozen=True)
class NoOptions:
    """For heads that have no options of their own."""


@dataclass(frozen=True)
class HeadKind:
    """How to build a head: the constructor, which common arguments it takes, and its own options."""

    build: Callable[..., Head]
    takes: tuple[str, ...] = ()
    options: type[Any] = NoOptions


HEADS: Registry[HeadKind] = Registry("head")
