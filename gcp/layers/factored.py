r"""Linear layers whose matrix is a product of known factors, applied in two ways.

Few columns (rows of the batch, positions of a map): the factors are applied one after the other. Many columns: the
matrix W is built once and used as that of any layer. A factor of k reflectors in d dimensions costs about 12 k d
operations for a column in forward and backward, its matrix of p columns 12 k d p, and a column through W 6 in out, in
two thirds of the time for each: the layer takes the cheaper way. In eval mode without gradients W is kept until a
parameter changes.
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from gcp.errors import ShapeError
from gcp.layers.cache import MatrixCache
from gcp.layers.frame import Frame, check_size
from gcp.layers.householder import check_tensor
from gcp.ops.numerics import outside_autocast

Self = TypeVar("Self", bound="ProductLayer")


class ProductLayer(nn.Module):
    """y = W x + b on one dimension of x. A subclass defines `multiply`, `solve`, `build` and `build_inverse`.

    Parameters and x are of one dtype, or autocast is on; the result is of the dtype that `nn.Linear` would give. The
    factors are multiplied in float32 at least, autocast or not.
    """

    axis = -1  # of x, that the layer acts on
    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool):
        super().__init__()
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            check_size(name, value, 1)
        self.in_features, self.out_features = in_features, out_features
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_features)) if bias else None)
        self._most_columns: float | None = None
        self._matrix, self._inverse_matrix = MatrixCache(), MatrixCache()

    def multiply(self, X: Tensor) -> Tensor:
        """W X, (in, m) -> (out, m)."""
        raise NotImplementedError

    def solve(self, Y: Tensor) -> Tensor:
        """The pseudo-inverse of W times Y, (out, m) -> (in, m)."""
        raise NotImplementedError

    def build(self) -> Tensor:
        """W (out, in)."""
        raise NotImplementedError

    def build_inverse(self) -> Tensor:
        """The pseudo-inverse of W (in, out)."""
        raise NotImplementedError

    def matrix(self) -> Tensor:
        """W (out, in); differentiable in training mode, and in eval mode where gradients are on."""
        return self._kept(self._matrix, self.build)

    @property
    def weight(self) -> Tensor:
        """W in the shape of the weight of the layer that this one replaces."""
        return self.matrix()

    def forward(self, x: Tensor) -> Tensor:
        """y = W x + b.

        Raises:
            ShapeError: not in_features along the axis of the layer, or another dtype than that of the parameters.
        """
        dtype = self._check(x, self.in_features)
        if self._applies(x.numel() // self.in_features):
            out = self._by_columns(self.multiply, x)
            return (out if self.bias is None else out + self._spread(self.bias, out)).to(dtype)
        return self._dense(x, self.matrix(), self.bias)

    def inverse(self, y: Tensor) -> Tensor:
        """x of y: exact for a square W; of several solutions the shortest, of none the least-squares one."""
        dtype = self._check(y, self.out_features)
        centred = y if self.bias is None else y - self._spread(self.bias, y)
        if self._applies(y.numel() // self.out_features):
            return self._by_columns(self.solve, centred).to(dtype)
        return self._dense(centred.to(dtype), self._kept(self._inverse_matrix, self.build_inverse), None)

    def train(self: Self, mode: bool = True) -> Self:
        """As of any module; training forgets the matrices kept."""
        if mode:
            self._forget()
        return super().train(mode)

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, bias={self.bias is not None}"

    def _apply(self: Self, *args: Any, **kwargs: Any) -> Self:
        self._forget()
        return super()._apply(*args, **kwargs)

    def _forget(self) -> None:
        self._matrix.clear()
        self._inverse_matrix.clear()

    def _kept(self, cache: MatrixCache, build: Callable[[], Tensor]) -> Tensor:
        with outside_autocast(next(self.parameters())):
            return cache.get(self._sources(), build) if self._keeps() else build()

    def _sources(self) -> list[Tensor]:
        """What W is computed from."""
        return [tensor for name, tensor in [*self.named_parameters(), *self.named_buffers()] if name != "bias"]

    def _keeps(self) -> bool:
        """Whether W is kept: in eval mode where no gradient can ask for its factors."""
        if self.training or torch.compiler.is_compiling():
            return False
        return not (torch.is_grad_enabled() and any(source.requires_grad for source in self._sources()))

    def _applies(self, columns: int) -> bool:
        """Whether the factors are applied rather than their product built."""
        if self._keeps():
            return False
        if self._most_columns is None:
            self._most_columns = self._break_even()
        return columns <= self._most_columns

    def _break_even(self) -> float:
        """Columns up to which applying the factors is cheaper than building W."""
        frames = [module for module in self.modules() if isinstance(module, Frame)]
        sizes = [(len(frame.vectors) * frame.d, frame.p) for frame in frames]
        dense = self.in_features * self.out_features / 3  # measured: W d x d pays from about 1.5 d columns on
        saved = sum(size for size, _ in sizes) - dense  # by each column that goes through W
        built = sum(size * p for size, p in sizes) + dense * frames[0].p * (len(frames) - 1)
        return built / saved if saved > 0 else math.inf

    def _check(self, x: Tensor, features: int) -> torch.dtype:
        """The dtype of the result."""
        check_tensor("the input", x)
        self._check_shape(x, features)
        own = next(self.parameters(), x).dtype
        kind = x.device.type
        if kind != "meta" and torch.is_autocast_enabled(kind) and x.dtype != torch.float64:
            return torch.get_autocast_dtype(kind)
        if x.dtype != own:
            raise ShapeError(f"the input is {x.dtype}, the layer is {own}: convert one, or use autocast.")
        return own

    def _check_shape(self, x: Tensor, features: int) -> None:
        if x.ndim < 1 or x.shape[-1] != features:
            columns = x.ndim == 2 and x.shape[0] == features
            hint = " Columns go first in gcp.layers.fasth; here write layer(X.mT).mT." if columns else ""
            raise ShapeError(f"(..., {features}) is needed, got shape {tuple(x.shape)}.{hint}")

    def _by_columns(self, act: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        rows = x.movedim(self.axis, -1)
        out = act(rows.reshape(x.numel() // rows.shape[-1], rows.shape[-1]).mT).mT.contiguous()
        return out.reshape(*rows.shape[:-1], out.shape[-1]).movedim(-1, self.axis)

    def _spread(self, bias: Tensor, x: Tensor) -> Tensor:
        return bias

    def _dense(self, x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, matrix, bias)


class Pointwise(ProductLayer):
    """Makes a layer a 1x1 convolution: it acts on the channels of (B, C, H, W)."""

    axis = 1

    @property
    def weight(self) -> Tensor:
        """W (out, in, 1, 1), as of `nn.Conv2d`."""
        return self.matrix()[:, :, None, None]

    def _check_shape(self, x: Tensor, features: int) -> None:
        if x.ndim != 4 or x.shape[1] != features:
            raise ShapeError(f"(B, {features}, H, W) is needed, got shape {tuple(x.shape)}.")

    def _spread(self, bias: Tensor, x: Tensor) -> Tensor:
        return bias[:, None, None]

    def _dense(self, x: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
        return functional.conv2d(x, matrix[:, :, None, None], bias)
