r"""An orthogonal matrix by Cayley's map, around the matrix that it starts from.

    W = B (I - A)(I + A)^(-1) = B (2 (I + A)^(-1) - I),      A = L - L^T

B is the start, orthogonal and fixed, and L the strict lower triangle of the parameter, zero at the start. I + A is
regular for every A, with a condition number of sqrt(1 + |A|^2), so W is as orthogonal as the arithmetic allows. It
reaches every orthogonal matrix of the determinant of B but those with an eigenvalue -1 of B^T W, a set without volume.

One factorisation of d^3 in the place of the many small steps of a product of reflectors: twice as
fast at d = 64, level with it at d = 256, slower beyond (`python scripts/benchmark_layers.py`).
"""

from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import ShapeError
from gcp.layers.frame import check_size, exempt, frame_matrix
from gcp.layers.reflectors import SLACK, initial, nearest_orthonormal, reflectors_of

LARGEST = 128  # dimensions up to which it is the faster one for few columns and many


class CayleyFrame(nn.Module):
    """W (d, d), in the place of a `Frame` with as many columns as dimensions; `init` as there."""

    base: Tensor

    def __init__(self, d: int, init: str = "haar"):
        super().__init__()
        check_size("d", d, 1)
        self.d, self.p, self.init = d, d, init
        self.register_buffer("base", start(init, d))
        self.entries = nn.Parameter(torch.zeros(d, d))
        exempt(self)

    def multiply(self, X: Tensor) -> Tensor:
        """W X, (d, m) -> (d, m)."""
        S, X = self._shifted(X)
        return self.base.to(S) @ (2 * torch.linalg.solve(S, X) - X)

    def adjoint(self, X: Tensor) -> Tensor:
        """W^T X, (d, m) -> (d, m)."""
        S, X = self._shifted(X)
        X = self.base.to(S).mT @ X
        return 2 * torch.linalg.solve(S.mT, X) - X

    def matrix(self) -> Tensor:
        """W (d, d)."""
        S, identity = self._shifted(torch.eye(self.d, device=self.entries.device))
        return (self.base.to(S) @ (2 * torch.linalg.inv(S) - identity)).to(self.entries.dtype)

    def sign(self) -> Tensor:
        """The determinant of W, which is that of B: 1 or -1, shape ()."""
        return torch.linalg.slogdet(self.base.double())[0].to(self.entries.dtype)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw another start."""
        self.base.copy_(start(self.init, self.d))
        self.entries.zero_()

    @torch.no_grad()
    def assign(self, W: Tensor) -> None:
        """Start from W (d, d). Raises ShapeError for another shape, or a matrix that is not orthogonal."""
        if tuple(W.shape) != (self.d, self.d):
            raise ShapeError(f"the matrix is ({self.d}, {self.d}), the given one has shape {tuple(W.shape)}.")
        reflectors_of(W)  # it names the distance from an orthogonal one
        self.base.copy_(W)
        self.entries.zero_()

    def extra_repr(self) -> str:
        return f"{self.d} x {self.d}"

    def _apply(self, *args: Any, **kwargs: Any) -> "CayleyFrame":
        super()._apply(*args, **kwargs)
        self._settle()
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[misc]
        self._settle()

    @torch.no_grad()
    def _settle(self) -> None:
        """Make the start orthogonal in the precision that it has now: one from float32 is not, in float64."""
        if self.base.device.type == "meta" or self.base.dtype in (torch.bfloat16, torch.float16):
            return
        error = self.base.mT @ self.base - torch.eye(self.d, dtype=self.base.dtype, device=self.base.device)
        if float(error.abs().amax()) > SLACK * torch.finfo(self.base.dtype).eps * self.d**0.5:
            self.base.copy_(nearest_orthonormal(self.base))

    def __setstate__(self, state: dict) -> None:
        super().__setstate__(state)
        exempt(self)  # copy.deepcopy drops the attributes of parameters

    def _shifted(self, X: Tensor) -> tuple[Tensor, Tensor]:
        """I + A, and X, in one dtype of at least float32: that of the parameter or X."""
        dtype = torch.promote_types(torch.promote_types(self.entries.dtype, X.dtype), torch.float32)
        L = self.entries.to(dtype).tril(-1)
        return torch.eye(self.d, dtype=dtype, device=L.device) + L - L.mT, X.to(dtype)


def start(init: str, d: int) -> Tensor:
    """An orthogonal matrix (d, d) in float32 by the name of its distribution: `haar` or `identity`."""
    V = initial(init, d, d).double()
    return torch.eye(d) if init == "identity" else frame_matrix(V, d).float()
