r"""Invertible 1x1 convolutions: y = W x at every position of a map, with the log-determinant that a flow needs.

One interface, three forms of the square matrix W (c, c):

| form | W | log|det W| | inverse |
|---|---|---|---|
| `plain` | a matrix | LU factorisation, c^3 | LU factorisation, c^3 |
| `plu` | P L (U + diag(s)): P fixed, L and U triangular, s = +- exp(r) | sum of r | two triangular solves |
| `svd` | U diag(s) V^T, U and V products of reflectors | sum of log s | V diag(1/s) U^T |

The first two are those of Glow (Kingma and Dhariwal, NeurIPS 2018, section 3.2), the third that of "What if neural
networks had SVDs?" (Mathiasen et al., NeurIPS 2020). A map of H x W positions has H W log|det W| for each sample.
"""

from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import OptionError, ShapeError, UnknownNameError
from gcp.layers.decomposed import SVDConv1x1
from gcp.layers.factored import Pointwise
from gcp.layers.frame import check_size, exempt, frame_matrix
from gcp.layers.orthonormal import as_matrix
from gcp.layers.reflectors import haar
from gcp.ops.numerics import outside_autocast
from gcp.registry import Registry

# Square layers on the channels of (B, c, H, W), made of c and their options, with `slogdet`,
# `log_abs_det` and `assign`.
FORMS: Registry[Any] = Registry("form")


class Dense(Pointwise):
    """A square W without reflectors: always built, never applied factor by factor."""

    def __init__(self, channels: int, **options: Any):
        super().__init__(channels, channels, bias=False)
        if options:
            raise OptionError(f"options {', '.join(options)} are of the form 'svd'; the others take none.")

    def multiply(self, X: Tensor) -> Tensor:
        return self.build() @ X

    def solve(self, Y: Tensor) -> Tensor:
        return self.build_inverse() @ Y

    def slogdet(self, positions: int = 1) -> tuple[Tensor, Tensor]:
        """Sign and log |det W|, shape () each, of W applied at so many positions."""
        raise NotImplementedError

    def log_abs_det(self, positions: int = 1) -> Tensor:
        """The second of `slogdet`."""
        return self.slogdet(positions)[1]

    def _break_even(self) -> float:
        return -1


@FORMS.register("plain", summary="a matrix, factorised anew for each determinant and inverse")
class PlainForm(Dense):
    """W itself is the parameter."""

    def __init__(self, channels: int, **options: Any):
        super().__init__(channels, **options)
        self.entries = nn.Parameter(torch.eye(channels))
        exempt(self)

    def build(self) -> Tensor:
        return self.entries

    def build_inverse(self) -> Tensor:
        return torch.linalg.inv(self.entries)

    def slogdet(self, positions: int = 1) -> tuple[Tensor, Tensor]:
        """Sign and log |det W|, shape () each, of W applied at so many positions."""
        with outside_autocast(self.entries):
            sign, logarithm = torch.linalg.slogdet(self.entries)
        return sign.detach() ** positions, positions * logarithm

    @torch.no_grad()
    def assign(self, W: Tensor) -> None:
        """Take this matrix."""
        self.entries.copy_(W)


@FORMS.register("plu", summary="triangular factors with a fixed permutation and fixed signs")
class PLUForm(Dense):
    """P and the signs of s are fixed at the start; the strict triangles of L and U, and log |s|, are trained."""

    permutation: Tensor
    parity: Tensor
    signs: Tensor

    def __init__(self, channels: int, **options: Any):
        super().__init__(channels, **options)
        self.register_buffer("permutation", torch.eye(channels))
        self.register_buffer("parity", torch.ones(()))
        self.register_buffer("signs", torch.ones(channels))
        self.lower = nn.Parameter(torch.zeros(channels, channels))
        self.upper = nn.Parameter(torch.zeros(channels, channels))
        self.logarithms = nn.Parameter(torch.zeros(channels))
        exempt(self)

    def _triangles(self) -> tuple[Tensor, Tensor]:
        identity = torch.eye(self.in_features, dtype=self.lower.dtype, device=self.lower.device)
        return self.lower.tril(-1) + identity, self.upper.triu(1) + torch.diag(self.signs * self.logarithms.exp())

    def build(self) -> Tensor:
        L, U = self._triangles()
        return self.permutation @ (L @ U)

    def build_inverse(self) -> Tensor:
        L, U = self._triangles()
        right = torch.linalg.solve_triangular(L, self.permutation.mT, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(U, right, upper=True)

    def slogdet(self, positions: int = 1) -> tuple[Tensor, Tensor]:
        """Sign and log |det W|, shape () each, of W applied at so many positions."""
        return (self.parity * self.signs.prod()) ** positions, positions * self.logarithms.sum()

    @torch.no_grad()
    def assign(self, W: Tensor) -> None:
        """Take this matrix, with its own permutation and signs."""
        P, L, U = torch.linalg.lu(W.double())
        diagonal = U.diagonal()
        self.permutation.copy_(P)
        self.parity.copy_(torch.linalg.det(P).round())
        self.lower.copy_(L.tril(-1))
        self.upper.copy_(U.triu(1))
        self.signs.copy_(diagonal.sign())
        self.logarithms.copy_(diagonal.abs().log())


@FORMS.register("svd", summary="its own singular value decomposition: determinant and inverse without factorising")
class SVDForm(SVDConv1x1):
    """`SVDConv1x1` between equal numbers of channels. Options are those of its spectrum."""

    def __init__(self, channels: int, spectrum: str = "exp", **options: Any):
        super().__init__(channels, channels, bias=False, spectrum=spectrum, **options)

    @torch.no_grad()
    def assign(self, W: Tensor) -> None:
        """Take this matrix. Raises OptionError for singular values that the spectrum cannot have."""
        U, s, Vh = torch.linalg.svd(W.double())
        self.spectrum.assign(s)
        self.left.assign(U)
        self.right.assign(Vh.mT)


class InvertibleConv1x1(nn.Module):
    """y = W x on the channels of (B, c, H, W), and the log-determinant of it for each sample.

    At the start W is orthogonal and Haar-distributed; it is the same for all forms under the same seed, and no other
    random number is drawn. In eval mode without gradients W and its inverse are kept.

    Args:
        channels: c.
        form: of `FORMS`: `plain`, `plu` or `svd`.
        **options: of the form; those of `svd` are a spectrum and its options.

    Raises:
        UnknownNameError: an unknown form.
        OptionError: no channels, an option that the form does not take.

    Examples:
        >>> import torch
        >>> from gcp import layers
        >>> conv = layers.InvertibleConv1x1(6, "svd")
        >>> x = torch.randn(2, 6, 4, 4)
        >>> y, log_det = conv(x)
        >>> log_det.shape, torch.allclose(conv.inverse(y), x, atol=1e-5)
        (torch.Size([2]), True)
    """

    def __init__(self, channels: int, form: str = "svd", **options: Any):
        super().__init__()
        if form not in FORMS:
            raise UnknownNameError("form", form, FORMS)
        self.form = form
        check_size("channels", channels, 1)
        start = haar(channels, channels).double()
        with torch.random.fork_rng(devices=[]):
            self.map = FORMS[form].obj(channels, **options)
        self.map.assign(frame_matrix(start, channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """y (B, c, H, W), and H W log|det W| (B,) in float32 at least.

        Raises:
            ShapeError: another number of channels, or another dtype than that of the parameters.
        """
        y = self.map(x)
        logarithm = self.map.log_abs_det(x.shape[2] * x.shape[3])
        return y, logarithm.expand(len(x))

    def inverse(self, y: Tensor) -> Tensor:
        """x of y, (B, c, H, W)."""
        return self.map.inverse(y)

    def matrix(self) -> Tensor:
        """W (c, c)."""
        return self.map.matrix()

    def slogdet(self) -> tuple[Tensor, Tensor]:
        """Sign and log |det W|, shape () each."""
        return self.map.slogdet()

    @classmethod
    def from_matrix(cls, W: Tensor, form: str = "svd", **options: Any) -> "InvertibleConv1x1":
        """The layer of a given W (c, c), or (c, c, 1, 1), in its dtype and on its device.

        Raises:
            ShapeError: not square, or not invertible.
            OptionError: singular values that the spectrum of `svd` cannot have.
        """
        matrix = as_matrix(W.detach())
        if matrix.shape[0] != matrix.shape[1]:
            raise ShapeError(f"a square matrix (c, c) is needed, got shape {tuple(matrix.shape)}.")
        if not bool(torch.linalg.slogdet(matrix.double())[1].isfinite()):
            raise ShapeError("the matrix is singular: it has no inverse, and log |det W| is not finite.")
        made = cls(len(matrix), form, **options).to(matrix)
        made.map.assign(matrix)
        return made

    def extra_repr(self) -> str:
        return f"form={self.form}"
