"""What the benchmark of layers compares: ours, the sequential product, torch's and geotorch's maps, a dense matrix.

A method is prepared for a task and gives `Work`: a function of no arguments, and the leaves that it is differentiated
by. Four tasks, all with normal weights and columns of one seed:

* `apply`: W X of a square orthogonal W (d, d) and m columns;
* `build`: a weight (d / 8, d) with orthonormal rows, by itself;
* `logdet`: log |det W| and W^(-1) Y of a square W (d, d) and m columns;
* `spectral`: W X of a square W (d, d) whose spectral norm is kept, and m columns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal as torch_orthogonal

from gcp.analysis.benchmarks.layer_norms import NORMED
from gcp.errors import OptionError
from gcp.layers import Orthogonal, SVDLinear, householder_apply, orthogonal

CPU = torch.device("cpu")
NARROW = 8  # a weight of the task `build` has one row for so many columns


@dataclass(frozen=True)
class Work:
    """Something to time: `call` gives a tuple of outputs, `leaves` are what they are differentiated by."""

    call: Callable[[], tuple[Tensor, ...]]
    leaves: tuple[Tensor, ...]


@dataclass(frozen=True)
class Place:
    """Sizes, device and seed of a task; d dimensions, m columns, `block` for our own methods (None: chosen)."""

    d: int
    m: int
    device: torch.device = CPU
    seed: int = 0
    block: int | None = None

    def normal(self, *shape: int, offset: int = 0) -> Tensor:
        """A leaf of standard normal numbers, the same for every method."""
        generator = torch.Generator().manual_seed(self.seed + offset)
        return torch.randn(*shape, generator=generator).to(self.device).requires_grad_()

    def rows(self) -> Tensor:
        """Columns as rows of a batch (m, d)."""
        return self.normal(self.m, self.d, offset=1)


def _module(layer: nn.Module, place: Place) -> Work:
    layer, x = layer.to(place.device), place.rows()
    return Work(lambda: (layer(x),), (x, *layer.parameters()))


def _function(act: Callable[[Tensor, Tensor], Tensor], place: Place) -> Work:
    V, x = place.normal(place.d, place.d), place.rows()
    return Work(lambda: (act(V, x.mT).mT,), (x, V))


def sequential(V: Tensor, X: Tensor) -> Tensor:
    """H_1 ... H_k X by one rank-one update for each reflector; the lengths are taken out of the loop."""
    units = V * (2**0.5 / torch.linalg.vector_norm(V, dim=1, keepdim=True))
    for u in reversed(units.unbind()):
        X = torch.addr(X, u, u @ X, alpha=-1)
    return X


def householder_product(V: Tensor, X: Tensor) -> Tensor:
    """The same kind of product by `torch.linalg.householder_product`, whose i-th reflector is (0, ..., 0, 1, a)."""
    A = V.mT.tril(-1)
    return torch.linalg.householder_product(A, 2 / (1 + A.square().sum(0))) @ X


def _weight(parametrised: Callable[[nn.Linear], nn.Module], place: Place) -> Work:
    layer = parametrised(nn.Linear(place.d, max(place.d // NARROW, 1), bias=False)).to(place.device)
    return Work(lambda: (cast(Tensor, layer.weight),), tuple(layer.parameters()))


def _layer(parametrised: Callable[[nn.Linear], nn.Module], place: Place) -> Work:
    return _module(parametrised(nn.Linear(place.d, place.d, bias=False)), place)


def _torch(name: str) -> Callable[[nn.Linear], nn.Module]:
    return lambda linear: torch_orthogonal(linear, "weight", name)


def _geotorch(linear: nn.Linear) -> nn.Module:
    import geotorch

    geotorch.orthogonal(linear, "weight")
    return linear


def _svd_logdet(place: Place) -> Work:
    layer = SVDLinear(place.d, place.d, bias=False, block=place.block).to(place.device)
    y = place.rows()
    return Work(lambda: (layer.slogdet()[1], layer.inverse(y)), (y, *layer.parameters()))


def _dense_logdet(place: Place) -> Work:
    W, y = place.normal(place.d, place.d), place.rows()
    return Work(lambda: (torch.linalg.slogdet(W)[1], torch.linalg.solve(W, y.mT).mT), (y, W))


def _normed(name: str, place: Place) -> Work:
    return _module(NORMED[name](place.d)[0], place)


Prepare = Callable[[Place], Work]
OURS = "gcp"
METHODS: dict[str, dict[str, Prepare]] = {
    "apply": {
        OURS: lambda place: _module(Orthogonal(place.d, block=place.block), place),
        "gcp_rebuild": lambda place: _function(lambda V, X: householder_apply(V, X, place.block, rebuild=True), place),
        "sequential": partial(_function, sequential),
        "householder_product": partial(_function, householder_product),
        "torch_householder": partial(_layer, _torch("householder")),
        "torch_cayley": partial(_layer, _torch("cayley")),
        "torch_matrix_exp": partial(_layer, _torch("matrix_exp")),
        "geotorch": partial(_layer, _geotorch),
        "dense": lambda place: _module(nn.Linear(place.d, place.d, bias=False), place),
    },
    "build": {
        OURS: lambda place: _weight(lambda linear: orthogonal(linear, block=place.block), place),
        "torch_householder": partial(_weight, _torch("householder")),
        "torch_cayley": partial(_weight, _torch("cayley")),
        "torch_matrix_exp": partial(_weight, _torch("matrix_exp")),
        "geotorch": partial(_weight, _geotorch),
    },
    "logdet": {OURS: _svd_logdet, "dense": _dense_logdet},
    "spectral": {name: partial(_normed, name) for name in NORMED},
}


def select(task: str, names: list[str] | None) -> list[str]:
    """Methods of a task among `names` (None: all), ours first; geotorch only where it is installed.

    Raises:
        OptionError: geotorch is asked for and not installed.
    """
    installed = find_spec("geotorch") is not None
    if names and "geotorch" in names and not installed:
        raise OptionError("geotorch is not installed: pip install geotorch, or leave it out of --methods.")
    known = [name for name in METHODS[task] if installed or name != "geotorch"]
    return [name for name in known if names is None or name in names or name == OURS]
