r"""Layers with orthonormal columns or rows: lengths, angles and gradients pass through a square one unchanged.

`polar` is the polar factor of a matrix, by an eigendecomposition of the Gram matrix of its smaller side.

    A = U diag(s) V^T,      U V^T = (A A^T)^(-1/2) A = E diag(l^(-1/2)) E^T A,      A A^T = E diag(l) E^T

U V^T is the matrix nearest to A whose rows (columns where they are fewer) are orthonormal. Squaring costs half of the
digits: in float64 the error is about 1e-16 times the squared condition number of A, which is why a singular value
decomposition takes over at 1e5. The gradient of a layer is some 256 x 2048; only its 256 x 256 side is
decomposed here.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor

from gcp.errors import OptionError, ShapeError, suggest
from gcp.layers.cayley import LARGEST, CayleyFrame
from gcp.layers.factored import Pointwise, ProductLayer
from gcp.layers.frame import Frame
from gcp.layers.householder import check_tensor
from gcp.layers.triangular import TriangularFrame

FLATTEST = 1e-10  # least eigenvalue over the largest; below it the singular value decomposition is taken


def polar_factor(A: Tensor) -> Tensor:
    """U V^T (m, n) of A (m, n), in the dtype of A; computed in float64.

    Where A has null singular values the factor is not unique: this is one of them, with orthonormal rows all the same,
    so that directions outside the range of A are arbitrary. The factor of zero is zero.

    Raises:
        torch.linalg.LinAlgError: inf or NaN, on the CPU.
    """
    X = A.detach().double()
    largest = X.abs().amax() if X.numel() else X.new_zeros(())
    if largest == 0:
        return torch.zeros_like(A)
    X = X / largest  # squares neither overflow nor underflow
    tall = X.shape[0] > X.shape[1]
    X = X.mT if tall else X
    values, E = torch.linalg.eigh(X @ X.mT)
    if values[0] > FLATTEST * values[-1]:
        Q = ((E * values.rsqrt()) @ E.mT) @ X
    else:
        U, _, Vh = torch.linalg.svd(X, full_matrices=False)
        Q = U @ Vh
    return (Q.mT if tall else Q).to(A.dtype)


METHODS = ("householder", "triangular", "cayley", "auto")  # of `Orthogonal`

Self = TypeVar("Self", bound="OrthogonalLinear")


class OrthogonalLinear(ProductLayer):
    """y = W x + b on the last dimension; W (out, in) has orthonormal columns, or rows where out < in.

    W = H_1 ... H_k E, or its transpose where out < in; see `Frame`. `inverse(y)` is W^T (y - b).

    Args:
        in_features: size of the last dimension of the input.
        out_features: size of the last dimension of the output.
        bias: a trained bias, zero at the start.
        reflectors: their number k, None is min(in, out), which reaches every such matrix (of one determinant where
            in = out).
        block: reflectors in a block, see `householder_apply`.
        init: `haar`, or `identity`: ones on the diagonal, zeros elsewhere.

    Raises:
        OptionError: a size below 1, or an unknown init.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> layer = layers.OrthogonalLinear(8, 4, bias=False)  # orthonormal rows
        >>> torch.allclose(layer.weight @ layer.weight.T, torch.eye(4), atol=1e-5)
        True
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        reflectors: int | None = None,
        block: int | None = None,
        init: str = "haar",
    ):
        super().__init__(in_features, out_features, bias)
        self.frame: Frame | CayleyFrame = Frame(
            max(in_features, out_features), min(in_features, out_features), reflectors, block, init
        )

    @property
    def _tall(self) -> bool:
        return self.out_features >= self.in_features

    def multiply(self, X: Tensor) -> Tensor:
        return self.frame.multiply(X) if self._tall else self.frame.adjoint(X)

    def solve(self, Y: Tensor) -> Tensor:
        return self.frame.adjoint(Y) if self._tall else self.frame.multiply(Y)

    def build(self) -> Tensor:
        return self.frame.matrix() if self._tall else self.frame.matrix().mT

    def build_inverse(self) -> Tensor:
        return self.build().mT

    @classmethod
    def from_matrix(cls: type[Self], W: Tensor, bias: Tensor | None = None, block: int | None = None) -> Self:
        """The layer of a given W (out, in), or (out, in, 1, 1), in its dtype and on its device.

        Raises:
            ShapeError: neither columns nor rows are orthonormal; `nearest_orthonormal` makes them so.
        """
        out_features, in_features = as_matrix(W).shape
        return cls(in_features, out_features, bias is not None, block=block)._take(W, bias)

    @torch.no_grad()
    def _take(self: Self, W: Tensor, bias: Tensor | None) -> Self:
        matrix = as_matrix(W)
        self.to(matrix)
        self.frame.assign(matrix if self._tall else matrix.mT)
        if self.bias is not None and bias is not None:
            self.bias.copy_(bias)
        return self


class Orthogonal(OrthogonalLinear):
    """y = W x with an orthogonal W (d, d) on the last dimension of x; `inverse(y)` is exact.

    Args as `OrthogonalLinear`, all but d by name. The determinant is that of the start: either sign with `haar`, 1 with
    `identity`. `method` is `householder`, a product of reflectors; `triangular`, of reflectors that begin one entry
    later each (`gcp.layers.triangular`), with half of the arithmetic; `cayley`, Cayley's map (`gcp.layers.cayley`); or
    `auto`: `householder` where reflectors or block are given, else the fastest, `cayley` for d <= 128 and `triangular`
    beyond. A state dict of `householder` can be loaded into `triangular`, which then is the same matrix.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> layer = layers.Orthogonal(8)
        >>> x = torch.randn(2, 8)
        >>> torch.allclose(layer(x).norm(dim=1), x.norm(dim=1))
        True
        >>> torch.allclose(layer.inverse(layer(x)), x, atol=1e-5)
        True
    """

    def __init__(
        self,
        d: int,
        *others: Any,
        reflectors: int | None = None,
        block: int | None = None,
        init: str = "haar",
        method: str = "householder",
    ):
        if others:  # FastH's Orthogonal(d, m) has a block there, and few reflectors are few orthogonal matrices
            given = ", ".join(map(repr, (d, *others)))
            raise OptionError(
                f"Orthogonal({given}): only the first argument goes without a name. For {others[0]!r} reflectors in a "
                f"block write block={others[0]!r}, for a product of {others[0]!r} reflectors reflectors={others[0]!r}; "
                "the interface of FastH, Orthogonal(d, m), is that of gcp.layers.fasth."
            )
        if method not in METHODS:
            hint = suggest(str(method), METHODS)
            raise OptionError(f"method is {method!r}; allowed: {', '.join(METHODS)}.{hint}")
        by_reflectors = reflectors is not None or block is not None
        if method in ("cayley", "triangular") and by_reflectors:
            raise OptionError("reflectors and block are of method='householder'; leave them out.")
        if method == "householder" or by_reflectors:
            super().__init__(d, d, False, reflectors, block, init)
            return
        ProductLayer.__init__(self, d, d, False)
        cayley = method == "cayley" or (method == "auto" and d <= LARGEST)
        self.frame = CayleyFrame(d, init) if cayley else TriangularFrame(d, d, init)

    @classmethod
    def from_matrix(
        cls, W: Tensor, bias: Tensor | None = None, block: int | None = None, method: str = "householder"
    ) -> "Orthogonal":
        """The layer of a given orthogonal W (d, d), of either determinant, in its dtype and on its device.

        Raises:
            ShapeError: not orthogonal.
            OptionError: a bias, which this layer has not.
        """
        if bias is not None:
            raise OptionError("an Orthogonal has no bias; use OrthogonalLinear.from_matrix(W, bias).")
        if W.ndim != 2 or W.shape[0] != W.shape[1]:
            raise ShapeError(f"a square matrix (d, d) is needed, got shape {tuple(W.shape)}.")
        return cls(len(W), block=block, method=method)._take(W, None)

    def slogdet(self) -> tuple[Tensor, Tensor]:
        """Sign and log of the absolute value (zero) of the determinant, shape () each."""
        sign = self.frame.sign()
        return sign, torch.zeros_like(sign)

    def _break_even(self) -> float:
        if isinstance(self.frame, CayleyFrame):
            return self.out_features / 2
        return self.out_features if isinstance(self.frame, TriangularFrame) else super()._break_even()


class OrthogonalConv1x1(Pointwise, OrthogonalLinear):
    """`OrthogonalLinear` on the channels of (B, C, H, W): `nn.Conv2d(in_channels, out_channels, 1)`.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> layers.OrthogonalConv1x1(8, 4)(torch.randn(2, 8, 7, 7)).shape
        torch.Size([2, 4, 7, 7])
    """


def as_matrix(weight: Tensor) -> Tensor:
    """The matrix (out, in) of a weight (out, in) or (out, in, 1, 1).

    Raises:
        ShapeError: another shape.
    """
    check_tensor("the matrix", weight)
    if weight.ndim == 4 and weight.shape[2:] == (1, 1):
        weight = weight[:, :, 0, 0]
    if weight.ndim != 2:
        raise ShapeError(
            f"floating-point (out, in) or (out, in, 1, 1) is needed, got {weight.dtype} of shape {tuple(weight.shape)}."
        )
    return weight
