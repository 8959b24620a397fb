"""Trained singular values: from a free parameter to positive numbers within bounds that are known beforehand.

| name | values s of the parameter r | range |
|---|---|---|
| `exp` | exp(limit tanh(r / limit)): exp with a smooth clamp, which always has a gradient | exp(-limit) .. exp(limit) |
| `softplus` | log(1 + exp r) + eps | above eps |
| `box` | 1 + width tanh r | 1 - width .. 1 + width |
| `fixed` | value; no parameter | value |
| `free` | r, of any sign: eigenvalues rather than singular values | all |
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from gcp.errors import OptionError
from gcp.layers.frame import exempt
from gcp.options import build, option
from gcp.registry import Registry


@dataclass(frozen=True)
class Map:
    """From the parameter to the values, and back."""

    trained = True

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and greatest value."""
        return -math.inf, math.inf

    def values(self, raw: Tensor) -> Tensor:
        """s (r,) of the parameter (r,)."""
        return raw

    def raw(self, values: Tensor) -> Tensor:
        """The parameter (r,) of values (r,) within the bounds."""
        return values

    def logarithms(self, raw: Tensor) -> Tensor:
        """Log |s| (r,)."""
        return self.values(raw).abs().log()

    def parameter(self, values: Tensor) -> Tensor:
        """The parameter (r,) in float64 of any values (r,).

        Raises:
            OptionError: values that this spectrum cannot have.
        """
        values = values.detach().double()
        raw = self.raw(values)
        if bool(raw.isfinite().all()) and torch.allclose(self.values(raw), values, rtol=1e-6, atol=0):
            return raw
        low, high = self.bounds
        raise OptionError(
            f"{self} holds values within {low:.3g} and {high:.3g}, the matrix has values from "
            f"{float(values.min()):.3g} to {float(values.max()):.3g}. Widen its option, or use another spectrum: "
            f"{', '.join(SPECTRA)}."
        )


SPECTRA: Registry[type[Map]] = Registry("spectrum")
SPECTRA.add("free", Map, summary="any real number")


@SPECTRA.register("exp", summary="exp with a smooth clamp: within exp(-limit) and exp(limit)")
@dataclass(frozen=True)
class Exp(Map):
    """exp(limit tanh(r / limit))."""

    limit: float = option(10.0, "greatest |log s|", minimum=1e-3)

    @property
    def bounds(self) -> tuple[float, float]:
        return math.exp(-self.limit), math.exp(self.limit)

    def values(self, raw: Tensor) -> Tensor:
        return self.logarithms(raw).exp()

    def raw(self, values: Tensor) -> Tensor:
        return self.limit * torch.atanh(values.log() / self.limit)

    def logarithms(self, raw: Tensor) -> Tensor:
        return self.limit * torch.tanh(raw / self.limit)


@SPECTRA.register("softplus", summary="softplus plus eps")
@dataclass(frozen=True)
class Softplus(Map):
    """log(1 + exp r) + eps."""

    eps: float = option(1e-6, "least value", minimum=0)

    @property
    def bounds(self) -> tuple[float, float]:
        return self.eps, math.inf

    def values(self, raw: Tensor) -> Tensor:
        return softplus(raw) + self.eps

    def raw(self, values: Tensor) -> Tensor:
        s = values - self.eps
        return s + (-torch.expm1(-s)).log()


@SPECTRA.register("box", summary="within 1 - width and 1 + width")
@dataclass(frozen=True)
class Box(Map):
    """1 + width tanh r."""

    width: float = option(0.5, "greatest |s - 1|, below 1 for an invertible matrix", minimum=1e-6)

    @property
    def bounds(self) -> tuple[float, float]:
        return 1 - self.width, 1 + self.width

    def values(self, raw: Tensor) -> Tensor:
        return 1 + self.width * torch.tanh(raw)

    def raw(self, values: Tensor) -> Tensor:
        return torch.atanh((values - 1) / self.width)


@SPECTRA.register("fixed", summary="one value, not trained")
@dataclass(frozen=True)
class Fixed(Map):
    """All values equal and not trained: an orthogonal matrix times a number."""

    value: float = option(1.0, "the value", minimum=1e-12)
    trained = False

    @property
    def bounds(self) -> tuple[float, float]:
        return self.value, self.value

    def values(self, raw: Tensor) -> Tensor:
        return torch.full_like(raw, self.value)

    def raw(self, values: Tensor) -> Tensor:
        return torch.zeros_like(values)


def create_map(name: str, **options: Any) -> Map:
    """The map `name` with its options.

    Raises:
        UnknownNameError: no map of that name.
        OptionError: an option that it does not take, or a value outside its bounds.
    """
    return build(SPECTRA[name].obj, name, options)


class SingularValues(nn.Module):
    """Values (r,), all 1 at the start where 1 is within the bounds."""

    raw: Tensor

    def __init__(self, size: int, name: str = "exp", **options: Any):
        super().__init__()
        self.map = create_map(name, **options)
        raw = self.map.raw(torch.ones(size))
        if self.map.trained:
            self.raw = nn.Parameter(raw)
            exempt(self)
        else:
            self.register_buffer("raw", raw)

    def forward(self) -> Tensor:
        """The values."""
        return self.map.values(self.raw)

    def slogdet(self) -> tuple[Tensor, Tensor]:
        """Sign and log of the absolute value of the product of the values, shape () each."""
        logarithm = self.map.logarithms(self.raw).sum()
        positive = self.map.bounds[0] > 0
        return torch.ones_like(logarithm) if positive else self().detach().sign().prod(), logarithm

    @torch.no_grad()
    def assign(self, values: Tensor) -> None:
        """Take these values (r,). Raises OptionError for values that this spectrum cannot have."""
        self.raw.copy_(self.map.parameter(values))

    def extra_repr(self) -> str:
        return f"{len(self.raw)}, {self.map}"

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        exempt(self)
