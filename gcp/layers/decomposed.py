r"""Layers that are their own singular value decomposition: W = U diag(s) V^T, U and V products of reflectors.

Determinant, inverse, spectral norm and condition number cost a pass over s; bounds of s are bounds of the layer.

The time of a small W is that of calling operations rather than of their arithmetic. Where one block holds all
reflectors Y of U and of V, with T as in `gcp.layers.householder`, W and its gradient are one node of the graph:

    Z = T Y,  U = I - Y^T Z,      dL/dU = G V diag(s),  dL/dV = G^T U diag(s),  dL/ds = diag(U^T G V)

and dL/dY of each as there, with the identity for X.
"""

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from gcp.errors import OptionError, ShapeError
from gcp.layers.factored import Pointwise, ProductLayer
from gcp.layers.frame import Frame, frame_matrices, frame_matrix, single_block
from gcp.layers.householder import inverse_factor, scaled, through_factor
from gcp.layers.orthonormal import as_matrix
from gcp.layers.spectrum import SingularValues
from gcp.ops.numerics import outside_autocast

Self = TypeVar("Self", bound="SVDLinear")


class SVDLinear(ProductLayer):
    """y = W x + b on the last dimension, W = U diag(s) V^T (out, in) with r = min(in, out) singular values.

    At the start U and V are Haar-distributed and s = 1. `inverse(y)` is V diag(1/s) U^T (y - b).

    Args:
        in_features: size of the last dimension of the input.
        out_features: size of the last dimension of the output.
        bias: a trained bias, zero at the start.
        spectrum: of `gcp.layers.spectrum`: `exp`, `softplus`, `box`, `fixed`, `free`.
        reflectors: the number for each of U and V, None is r.
        block: reflectors in a block, see `householder_apply`.
        init: of U and V, `haar` or `identity`.
        **options: of the spectrum.

    Raises:
        OptionError: a size below 1, an unknown init or option; UnknownNameError: an unknown spectrum.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> layer = layers.SVDLinear(8, 4)
        >>> layer(torch.randn(2, 8)).shape
        torch.Size([2, 4])
        >>> layer.singular_values.detach()
        tensor([1., 1., 1., 1.])
    """

    def __init__(
        self,
        in_features: int | None = None,
        out_features: int | None = None,
        bias: bool = True,
        spectrum: str = "exp",
        reflectors: int | None = None,
        block: int | None = None,
        init: str = "haar",
        **options: Any,
    ):
        if in_features is None or out_features is None:
            d = in_features or options.get("d", "d")
            raise OptionError(
                f"both sizes are needed: LinearSVD({d}, {d}) for a square layer with the batch first; the interface "
                "of FastH, LinearSVD(d) with columns first, is that of gcp.layers.fasth."
            )
        super().__init__(in_features, out_features, bias)
        r = min(in_features, out_features)
        self.left = Frame(out_features, r, reflectors, block, init)
        self.right = Frame(in_features, r, reflectors, block, init)
        self.spectrum = SingularValues(r, spectrum, **options)

    @property
    def singular_values(self) -> Tensor:
        """s (r,), in no order; with `free` they may be negative, and |s| are the singular values."""
        return self.spectrum()

    def multiply(self, X: Tensor) -> Tensor:
        return self.left.multiply(self.spectrum()[:, None] * self.right.adjoint(X))

    def solve(self, Y: Tensor) -> Tensor:
        return self.right.multiply(self.left.adjoint(Y) / self.spectrum()[:, None])

    def build(self) -> Tensor:
        if single_block(self.left, self.right):
            return singular_product(self.left, self.right, self.spectrum())
        U, V = frame_matrices(self.left, self.right)
        return (U * self.spectrum()) @ V.mT

    def build_inverse(self) -> Tensor:
        if single_block(self.left, self.right):
            return singular_product(self.right, self.left, 1 / self.spectrum())
        U, V = frame_matrices(self.left, self.right)
        return (V / self.spectrum()) @ U.mT

    def slogdet(self, positions: int = 1) -> tuple[Tensor, Tensor]:
        """Sign and log |det W| (shape () each), of W applied at so many positions: height times width for a map.

        Raises:
            ShapeError: W is not square.
        """
        if self.in_features != self.out_features:
            raise ShapeError(f"a determinant needs a square matrix, W is {self.out_features} x {self.in_features}.")
        sign, logarithm = self.spectrum.slogdet()
        return (self.left.sign() * self.right.sign() * sign) ** positions, positions * logarithm

    def log_abs_det(self, positions: int = 1) -> Tensor:
        """Log |det W| of a square W, as `slogdet`, without the passes over the reflectors that its sign takes."""
        return positions * self.spectrum.slogdet()[1]

    def sigma_max(self) -> Tensor:
        """The spectral norm, the Lipschitz constant of the layer, shape ()."""
        return self.spectrum().abs().amax()

    def sigma_min(self) -> Tensor:
        """The least singular value, shape ()."""
        return self.spectrum().abs().amin()

    def cond(self) -> Tensor:
        """The condition number sigma_max / sigma_min, shape ()."""
        return self.sigma_max() / self.sigma_min()

    @classmethod
    def from_linear(
        cls: type[Self], layer: nn.Linear | nn.Conv2d, spectrum: str = "exp", block: int | None = None, **options: Any
    ) -> Self:
        """The same function as a trained `nn.Linear`, or 1x1 `nn.Conv2d`, in its dtype and on its device.

        Raises:
            OptionError: singular values that the spectrum cannot have.
            ShapeError: a convolution with groups, stride or padding, or one that is not 1x1.
        """
        W = as_matrix(check_pointwise(layer).weight.detach())
        U, s, Vh = torch.linalg.svd(W.double(), full_matrices=False)
        made = cls(W.shape[1], W.shape[0], layer.bias is not None, spectrum, block=block, **options).to(W)
        made.left.assign(U)
        made.right.assign(Vh.mT)
        made.spectrum.assign(s)
        if made.bias is not None and layer.bias is not None:
            made.bias.data.copy_(layer.bias.detach())
        return made


LinearSVD = SVDLinear


def singular_product(left: Frame, right: Frame, s: Tensor) -> Tensor:
    """U diag(s) V^T (d, d) of two frames of one `single_block` each."""
    product: Tensor = SingularProduct.apply(scaled(torch.stack((left.vectors, right.vectors))), s)
    return product


class SingularProduct(torch.autograd.Function):
    """U diag(s) V^T (d, d) of the reflectors of both, Y (2, d, d), and s (d,)."""

    @staticmethod
    def forward(ctx: Any, Y: Tensor, s: Tensor) -> Tensor:
        T = inverse_factor(Y)
        Z = T @ Y
        F = torch.baddbmm(torch.eye(len(s), dtype=Y.dtype, device=Y.device), Y.mT, Z, alpha=-1)
        ctx.save_for_backward(Y, s, T, Z, F)
        return (F[0] * s) @ F[1].mT

    @staticmethod
    def backward(ctx: Any, G: Tensor) -> tuple[Tensor, ...]:
        Y, s, T, Z, F = ctx.saved_tensors
        with outside_autocast(G):
            if torch.is_grad_enabled():  # the gradient will be differentiated
                U, V = frame_matrix(Y, len(s)).unbind()
                return torch.autograd.grad((U * s) @ V.mT, (Y, s), G, create_graph=True)
            U, V = F.unbind()
            along = G @ V
            dF = torch.stack((along * s, ((U * s).mT @ G).mT))
            coefficients = T.mT @ (Y @ dF)
            dY = through_factor(Y, Z, coefficients, transpose=False)
            return dY.baddbmm_(Z, dF.mT, alpha=-1).sub_(coefficients), (along * U).sum(0)


class SVDConv1x1(Pointwise, SVDLinear):
    """`SVDLinear` on the channels of (B, C, H, W); its log-determinant is `slogdet(H * W)` for a sample.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> conv = layers.SVDConv1x1(6, 6)
        >>> sign, log_det = conv.slogdet(positions=4 * 4)
        >>> conv(torch.randn(2, 6, 4, 4)).shape
        torch.Size([2, 6, 4, 4])
    """

    @classmethod
    def from_conv(
        cls, layer: nn.Conv2d, spectrum: str = "exp", block: int | None = None, **options: Any
    ) -> "SVDConv1x1":
        """`from_linear`, under the name for convolutions."""
        return cls.from_linear(layer, spectrum, block, **options)


def check_pointwise(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """The layer. Raises ShapeError for another, and a convolution that does more than multiply channels by a matrix."""
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise ShapeError(f"a Linear or a 1x1 Conv2d is needed, got {type(layer).__name__}.")
    if isinstance(layer, nn.Conv2d):
        given = (layer.kernel_size, layer.stride, layer.padding, layer.groups)
        if given not in (((1, 1), (1, 1), (0, 0), 1), ((1, 1), (1, 1), "valid", 1)):
            raise ShapeError(f"a 1x1 convolution of stride 1, no padding and one group is needed, got {layer}.")
    return layer
