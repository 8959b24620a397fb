r"""A symmetric layer with its eigenvectors: functions of the matrix are functions of its eigenvalues.

W = Q diag(l) Q^T, f(W) = Q diag(f(l)) Q^T. The matrix exponential and the Cayley map (I - W)(I + W)^(-1) cost what the
layer itself costs ("What if neural networks had SVDs?", NeurIPS 2020, section 4).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gcp.errors import ShapeError
from gcp.layers.factored import ProductLayer
from gcp.layers.frame import Frame
from gcp.layers.householder import check_tensor
from gcp.layers.orthonormal import as_matrix
from gcp.layers.spectrum import SingularValues


class SymmetricLinear(ProductLayer):
    """y = W x + b on the last dimension with W = Q diag(l) Q^T (d, d). At the start l = 1, so that W = I.

    Args:
        features: d.
        bias: a trained bias, zero at the start.
        spectrum: of `gcp.layers.spectrum`: `free` by default; all others keep W positive definite.
        reflectors: of Q, as in `OrthogonalLinear`.
        block: of Q, as in `OrthogonalLinear`.
        init: of Q, as in `OrthogonalLinear`.
        **options: of the spectrum.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> layer = layers.SymmetricLinear(4)
        >>> x = torch.randn(2, 4)
        >>> torch.allclose(layer(x), x, atol=1e-5)  # W = I at the start
        True
        >>> layer.exp(x).shape  # exp(W) x, for the price of W x
        torch.Size([2, 4])
    """

    def __init__(
        self,
        features: int,
        bias: bool = True,
        spectrum: str = "free",
        reflectors: int | None = None,
        block: int | None = None,
        init: str = "haar",
        **options: Any,
    ):
        super().__init__(features, features, bias)
        self.frame = Frame(features, features, reflectors, block, init)
        self.spectrum = SingularValues(features, spectrum, **options)

    @property
    def eigenvalues(self) -> Tensor:
        """The eigenvalues (d,), in no order."""
        return self.spectrum()

    def multiply(self, X: Tensor) -> Tensor:
        return self._sandwich(self.spectrum(), X)

    def solve(self, Y: Tensor) -> Tensor:
        return self._sandwich(1 / self.spectrum(), Y)

    def build(self) -> Tensor:
        return self._with(self.spectrum())

    def build_inverse(self) -> Tensor:
        return self._with(1 / self.spectrum())

    def function(self, f: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """f(W) x on the last dimension, without the bias; f acts on eigenvalues (d,) of either sign."""
        dtype, values = self._check(x, self.in_features), f(self.spectrum())
        if self._applies(x.numel() // self.in_features):
            return self._by_columns(lambda X: self._sandwich(values, X), x).to(dtype)
        return self._dense(x, self._with(values), None)

    def exp(self, x: Tensor) -> Tensor:
        """The matrix exponential of W times x."""
        return self.function(torch.exp, x)

    def cayley(self, x: Tensor) -> Tensor:
        """(I - W)(I + W)^(-1) x; infinite where an eigenvalue is -1."""
        return self.function(lambda values: (1 - values) / (1 + values), x)

    def slogdet(self) -> tuple[Tensor, Tensor]:
        """Sign and log |det W|, shape () each."""
        return self.spectrum.slogdet()

    @classmethod
    def from_matrix(
        cls, W: Tensor, bias: Tensor | None = None, spectrum: str = "free", block: int | None = None, **options: Any
    ) -> "SymmetricLinear":
        """The layer of a given symmetric W (d, d), in its dtype and on its device.

        Raises:
            ShapeError: not square, or not symmetric.
            OptionError: eigenvalues that the spectrum cannot have.
        """
        check_tensor("the matrix", W)
        if as_matrix(W).ndim != W.ndim or W.shape[0] != W.shape[1]:
            raise ShapeError(f"a square matrix (d, d) is needed, got shape {tuple(W.shape)}.")
        if not torch.allclose(W, W.mT, rtol=0, atol=1e-3 * float(W.abs().amax())):
            raise ShapeError("the matrix is not symmetric; pass (W + W.mT) / 2.")
        values, Q = torch.linalg.eigh(W.detach().double())
        made = cls(len(W), bias is not None, spectrum, block=block, **options).to(W)
        made.frame.assign(Q)
        made.spectrum.assign(values)
        if made.bias is not None and bias is not None:
            made.bias.data.copy_(bias.detach())
        return made

    def _sandwich(self, values: Tensor, X: Tensor) -> Tensor:
        return self.frame.multiply(values[:, None] * self.frame.adjoint(X))

    def _with(self, values: Tensor) -> Tensor:
        Q = self.frame.matrix()
        return (Q * values) @ Q.mT
