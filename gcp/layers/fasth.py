r"""The interface of FastH, for code that was written for it: columns first, X (d, batch).

    from gcp.layers.fasth import Orthogonal, LinearSVD, fasthpp       # in the place of fasth_wrapper and fasthpp

| FastH | here |
|---|---|
| `Orthogonal(d, m)(X)`, m reflectors in a block | H_d ... H_2 H_1 X, the rows of `U` as reflectors from the first on |
| `.inverse(X)` | H_1 H_2 ... H_d X |
| `LinearSVD(d, m)(X)` | V D U X for two of them and a diagonal D (d, 1) |
| `fasthpp(V, X, stop_recursion)` | H_1 H_2 ... H_d X, the columns of V as reflectors; X (d, batch) or (..., d, batch) |

Outputs and gradients are those of FastH. What differs: any d and m on any device, in any precision; blocks of one layer
do not depend on those of another; reflectors need not have length one; `D` is trained and saved; `fasthpp` can be
differentiated. `gcp.layers.Orthogonal` and `gcp.layers.SVDLinear` are the same layers with the batch first.

Mathiasen, Hvilshoj, Jorgensen, Nasery and Mottin, "What if neural networks had SVDs?", NeurIPS 2020 (arXiv:2009.13977).
"""

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from gcp.errors import OptionError, ShapeError, suggest
from gcp.layers.frame import check_size, exempt
from gcp.layers.householder import check_block, householder_apply

STRATEGIES = ("fast", "sequential")
SPREAD = 0.05  # standard deviation of the reflectors at the start, as published
AROUND_ONE = (0.99, 1.01)  # bounds of the diagonal at the start, as published


class FastHOrthogonal(nn.Module):
    """An orthogonal matrix (d, d) on the columns of X (d, batch), or (..., d, batch).

    Args:
        d: rows of X.
        m: reflectors in a block; it changes the time only.
        strategy: `fast`, or `sequential`: one reflector after the other. Both give the same here; the published
            `sequential` applies them from the last to the first, without dividing by their length.

    Raises:
        OptionError: a size below 1, or another strategy.
    """

    def __init__(self, d: int, m: int = 28, strategy: str = "fast"):
        super().__init__()
        check_size("d", d, 1)
        check_block(m)
        if strategy not in STRATEGIES:
            hint = suggest(str(strategy), STRATEGIES)
            raise OptionError(f"strategy is {strategy!r}; allowed: {', '.join(STRATEGIES)}.{hint}")
        self.d, self.m, self.strategy = d, m, strategy
        self.U = nn.Parameter(torch.empty(d, d).normal_(0, SPREAD))
        exempt(self)

    def forward(self, X: Tensor) -> Tensor:
        """H_d ... H_1 X. Raises ShapeError for another number of rows."""
        return householder_apply(self.U, self._columns(X), self._block, transpose=True)

    def inverse(self, X: Tensor) -> Tensor:
        """H_1 ... H_d X, which undoes `forward`."""
        return householder_apply(self.U, self._columns(X), self._block)

    def lgdet(self, X: Tensor) -> int:
        """Log |det| of the matrix: 0."""
        return 0

    def _columns(self, X: Tensor) -> Tensor:
        if X.ndim < 2 or X.shape[-2] != self.d:
            raise ShapeError(
                f"X is {tuple(X.shape)}; allowed: columns first as in FastH, (..., {self.d}, batch). X.mT has them, "
                "and gcp.layers.Orthogonal and SVDLinear take the batch first."
            )
        return X

    @property
    def _block(self) -> int:
        return self.m if self.strategy == "fast" else 1

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        exempt(self)


class FastHLinearSVD(nn.Module):
    """V D U X on the columns of X (d, batch): U and V orthogonal, D (d, 1) the singular values, trained.

    Args as `FastHOrthogonal`.
    """

    def __init__(self, d: int, m: int = 32):
        super().__init__()
        self.d = d
        self.U = FastHOrthogonal(d, m)
        self.D = nn.Parameter(torch.empty(d, 1).uniform_(*AROUND_ONE))
        self.V = FastHOrthogonal(d, m)
        exempt(self)

    def forward(self, X: Tensor) -> Tensor:
        """V D U X."""
        return self.V(self.D * self.U(X))

    def inverse(self, X: Tensor) -> Tensor:
        """U^T D^(-1) V^T X, which undoes `forward`."""
        return self.U.inverse(self.V.inverse(X) / self.D)

    def lgdet(self, X: Tensor) -> Tensor:
        """Log |det| of the matrix, shape ()."""
        return self.D.abs().log().sum()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Also takes a state of FastH, which does not save D."""
        if f"{prefix}D" not in state_dict and f"{prefix}U.U" in state_dict:
            warnings.warn("a state of FastH holds no D: the singular values stay as they are", stacklevel=2)
            state_dict[f"{prefix}D"] = self.D.detach()
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)  # type: ignore[misc]

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        exempt(self)


def fasthpp(V: Tensor, X: Tensor, stop_recursion: int | None = 3) -> Tensor:
    """H_1 ... H_k X of reflectors that are the columns of V (d, k), for X (..., d, batch).

    Args:
        V: of any length, any d and k; the published function takes d = k, a power of two, and columns of length one.
        X: the matrix, or several.
        stop_recursion: blocks of 2^(stop_recursion + 1) reflectors, None for a single one. It changes the time only.
    """
    if stop_recursion is not None:
        check_size("stop_recursion", stop_recursion, 0)
    block = max(V.shape[-1], 1) if stop_recursion is None else 2 ** (stop_recursion + 1)
    return householder_apply(V.mT, X, block)


Orthogonal = FastHOrthogonal
LinearSVD = FastHLinearSVD
