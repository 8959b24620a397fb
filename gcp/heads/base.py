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
    """Feature map (B, C, H, W), or tokens (B, N, C) -> vector (B, out_features).

    A subclass defines `features` and `pool`; `complete` puts the mean beside what is pooled and scales both, where that
    was asked for (`gcp.heads.first_batches`). Non-finite features raise in eager mode on the CPU; under
    `torch.compile` and on other devices, where a test would stall, they set the buffer `nonfinite` (a bool of
    shape ()), which stays set until somebody reads and clears it (`gcp.heads.nonfinite`).
    """

    least_samples: ClassVar[int] = 2  # positions of the map that `pool` needs
    own_tensors: ClassVar[tuple[str, ...]] = ()  # names in a state dict beside those that every head may have
    reduces: ClassVar[bool] = True  # whether there is a reduction to `dim` channels
    takes_mean: ClassVar[bool] = True  # whether the mean beside the output would tell anything new
    mean, output_scale, reduction_init = "none", "published", "random"
    nonfinite: Tensor
    scales: Tensor | None  # factors of what is pooled and of the mean, (1,) or (2,)
    unit: Tensor | None  # root mean square of the features of the first batches, of heads that need it
    measured_on: Tensor | None  # images that the first batches had, int64 of shape (); 0 before they were seen

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", **options: Any):
        super().__init__()
        self.in_channels = in_channels
        self.channels = dim or in_channels
        self.out_features = self.features(self.channels, **options)
        self.reduction = create_reduction(reduction, in_channels, dim)
        self.register_buffer("nonfinite", torch.zeros((), dtype=torch.bool), persistent=False)
        self.register_buffer("unit", None)
        self.register_buffer("scales", None)
        self.register_buffer("measured_on", None)

    def configure(self, mean: str = "none", output_scale: str = "published", reduction_init: str = "random") -> None:
        """Set once, after `__init__`, what the head does beside pooling; values as in `gcp.create_head`."""
        self.mean, self.output_scale, self.reduction_init = mean, output_scale, reduction_init
        if mean == "concat":
            self.out_features += self.channels
        if mean == "concat" or output_scale == "measured":
            self.scales = torch.ones(1 + (mean == "concat"))
        if self.scales is not None or self.unit is not None or reduction_init != "random":
            self.measured_on = torch.zeros((), dtype=torch.int64)

    @property
    def pooled_features(self) -> int:
        """Width of what `pool` gives: `out_features` without the mean."""
        return self.out_features - self.channels * (self.mean == "concat")

    @classmethod
    def check(cls, **options: Any) -> None:
        """Raise OptionError for options that do not fit together; each by itself is fine."""

    @classmethod
    def tensors(cls, **options: Any) -> tuple[str, ...]:
        """`own_tensors`, where they depend on the options of the head."""
        return cls.own_tensors

    @classmethod
    def features(cls, channels: int, **options: Any) -> int:
        """What `out_features` is for maps of so many channels behind the reduction."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Pool a feature map (B, C, H, W), or tokens (B, N, C), which are the map (B, C, N, 1); bfloat16 and float16
        features give float32, others keep their dtype.

        Raises:
            ShapeError: not (B, in_channels, H, W) or (B, N, in_channels), an empty map, or one position where the head
                needs two.
            NonFiniteError: inf or NaN, or an output that its dtype cannot hold, in eager mode on the CPU.
        """
        if isinstance(x, Tensor) and x.ndim == 3:
            if x.shape[2] != self.in_channels:
                raise ShapeError(
                    f"tokens (B, N, {self.in_channels}) or a feature map (B, C, H, W) is needed, got shape "
                    f"{tuple(x.shape)}: the head was built for {self.in_channels} channels."
                )
            x = x.mT[..., None]
        check_map(x)
        if x.shape[1] != self.in_channels:
            raise ShapeError(f"the head was built for {self.in_channels} channels, the feature map has {x.shape[1]}.")
        x = self.reduction(x)
        if torch.compiler.is_compiling() or x.device.type != "cpu":
            self.nonfinite.logical_or_(~all_finite(x.detach()))
        else:
            require_finite(x, "where they enter the head, the features of sample")
        out = self.complete(self.pool(x), x)
        require_finite(out, f"the output of {type(self).__name__} leaves {out.dtype}: the numbers of sample")
        return out

    def complete(self, pooled: Tensor, x: Tensor) -> Tensor:
        """What `pool` gives of features x -> the output: the mean of x beside it, each by its constant."""
        if self.scales is None:
            return pooled
        pooled = pooled * self.scales[0]
        if self.mean == "none":
            return pooled
        return torch.cat([pooled, x.mean((2, 3), dtype=pooled.dtype) * self.scales[1]], 1)

    def pool(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, pooled_features)."""
        raise NotImplementedError

    def __repr__(self) -> str:
        """One line; the reduction is `head.reduction`."""
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        beside = ", the mean among them" if self.mean == "concat" else ""
        return f"{self.in_channels} channels -> {self.out_features} features{beside}"

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        if f"{prefix}measured_on" not in state_dict and f"{prefix}reduction.1.weight" in state_dict:
            self.reduction_init = "random"  # this reduction has its start: that of the file


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


MEANS = ("none", "concat")
OUTPUT_SCALES = ("published", "measured")

HEADS: Registry[HeadKind] = Registry("head")
