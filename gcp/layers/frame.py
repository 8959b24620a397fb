"""An orthonormal frame: a trained matrix (d, p) whose p columns are orthonormal, for every value of its parameter."""

from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import OptionError, ShapeError
from gcp.layers.householder import check_block, default_block, householder_apply
from gcp.layers.reflectors import determinant_sign, initial, reflectors_of

LARGEST_PAIR = 128  # dimensions up to which the overhead of the operations outweighs their arithmetic


class Frame(nn.Module):
    """F = H_1 ... H_k E (d, p), E the first p columns of the identity, p <= d.

    The parameter is `vectors` (k, d), the reflectors. p of them reach every frame of p < d columns and, for p = d,
    every orthogonal matrix of one determinant; the determinant cannot change in training.
    """

    vectors: nn.Parameter

    def __init__(self, d: int, p: int, reflectors: int | None = None, block: int | None = None, init: str = "haar"):
        super().__init__()
        check_size("d", d, 1)
        check_size("p", p, 1)
        if reflectors is not None:
            check_size("reflectors", reflectors, 0)
        if p > d:
            raise OptionError(f"{p} orthonormal columns do not fit into {d} dimensions.")
        if block is not None:
            check_block(block)
        self.d, self.p, self.block, self.init = d, p, block, init
        self.vectors = nn.Parameter(initial(init, p if reflectors is None else reflectors, d))
        exempt(self)

    def multiply(self, X: Tensor) -> Tensor:
        """F X, (p, m) -> (d, m)."""
        if self.d > self.p:  # not by pad, which older versions of torch refuse for no columns
            X = torch.cat([X, X.new_zeros(*X.shape[:-2], self.d - self.p, X.shape[-1])], dim=-2)
        return householder_apply(self.vectors, X, self.block)

    def adjoint(self, X: Tensor) -> Tensor:
        """F^T X, (d, m) -> (p, m)."""
        out = householder_apply(self.vectors, X, self.block, transpose=True)
        return out[: self.p] if self.d > self.p else out

    def matrix(self) -> Tensor:
        """F (d, p)."""
        return frame_matrix(self.vectors, self.p, self.block)

    def sign(self) -> Tensor:
        """The determinant of H_1 ... H_k, 1 or -1, shape ()."""
        return determinant_sign(self.vectors)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the reflectors again, as at the start."""
        self.vectors.copy_(initial(self.init, *self.vectors.shape))

    @torch.no_grad()
    def assign(self, A: Tensor) -> None:
        """Make this frame equal to A (d, p).

        Raises:
            ShapeError: another shape, or columns that are not orthonormal.
            OptionError: fewer reflectors than columns.
        """
        k = len(self.vectors)
        if tuple(A.shape) != (self.d, self.p):
            raise ShapeError(f"the frame is ({self.d}, {self.p}), the matrix has shape {tuple(A.shape)}.")
        if k < self.p:
            raise OptionError(f"{k} reflectors cannot be any frame of {self.p} columns; use reflectors={self.p}.")
        V = reflectors_of(A)
        self.vectors.copy_(torch.cat((V, V.new_zeros(k - self.p, self.d))))

    def extra_repr(self) -> str:
        return f"{self.d} x {self.p}, {len(self.vectors)} reflectors"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        exempt(self)  # copy.deepcopy drops the attributes of parameters


def check_size(name: str, value: int, least: int) -> None:
    """Raise OptionError unless `value` is a whole number >= `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise OptionError(f"{name} is {value!r}; allowed: a whole number >= {least}.")


def frame_matrix(V: Tensor, p: int, block: int | None = None) -> Tensor:
    """H_1 ... H_k E (..., d, p) of reflectors (..., k, d)."""
    return householder_apply(V, torch.eye(V.shape[-1], p, dtype=V.dtype, device=V.device), block)


def frame_matrices(first: Frame, second: Frame) -> tuple[Tensor, Tensor]:
    """`matrix` of both; frames of one size are built together, in the time of one where they are small."""
    alike = first.vectors.shape == second.vectors.shape and (first.p, first.block) == (second.p, second.block)
    if not alike or first.d > LARGEST_PAIR:
        return first.matrix(), second.matrix()
    vectors = torch.stack((first.vectors, second.vectors))
    return frame_matrix(vectors, first.p, first.block).unbind()  # type: ignore[return-value]


def single_block(first: Frame, second: Frame) -> bool:
    """Whether two square frames of one size have all their reflectors, of float32 or float64, in one block each."""
    d, vectors = first.d, first.vectors
    alike = d == first.p == second.p and vectors.shape == second.vectors.shape == (d, d)
    block = first.block or default_block(d, vectors.device, d)
    usual = vectors.dtype in (torch.float32, torch.float64) and not torch.compiler.is_compiling()
    return alike and usual and first.block == second.block and d <= block


def exempt(module: nn.Module) -> None:
    """Mark the module's own parameters for no weight decay: the length of a reflector means nothing."""
    for parameter in module.parameters(recurse=False):
        parameter.no_weight_decay = True  # type: ignore[attr-defined]
