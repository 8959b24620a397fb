r"""`power_iteration`: the gradient of k deflated power iterations started at each eigenvector.

Deflation P <- P - (v^T P v) v v^T, differentiated through. Folded: rho = 1 + x^(k - 1/2); it doubles the
gradient between equal eigenvalues, where the exact rule keeps it. The published code multiplies by I - V V^T with the
full V, which is zero: the published form passes no gradient, and says so once. Wang, Dang, Hu, Fua and
Salzmann, NeurIPS 2019 (arXiv:1906.09023).
"""

import warnings
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from gcp.gradients.base import RULES, Published, Rule
from gcp.ops.numerics import inverse_or_zero
from gcp.options import option


@lru_cache(maxsize=1)
def _warn_once() -> None:
    warnings.warn(
        "the published form of 'power_iteration' passes no gradient (it multiplies by I - V V^T = 0): nothing "
        "before the head is trained; form='folded' is the gradient of the power iterations",
        stacklevel=2,
    )


@RULES.register(
    "power_iteration",
    summary="gradient of k deflated power iterations: doubles equal pairs",
    paper="Wang et al., NeurIPS 2019",
)
@dataclass(frozen=True)
class PowerIteration(Rule):
    """The gradient of power iterations."""

    head = "svd_pi"
    kernel = "PowerIteration"
    iterations: int = option(19, "power iterations k per eigenvector", minimum=1, maximum=10_000)

    @property
    def kernel_parameter(self) -> float:
        return self.iterations - 0.5

    @classmethod
    def of_kernel_parameter(cls, parameter: float) -> "PowerIteration":
        return cls(round(parameter + 0.5))

    def ratio(self, left: Tensor, right: Tensor) -> Tensor:
        x = torch.minimum(left, right) * inverse_or_zero(torch.maximum(left, right))
        return 1 + x ** (self.iterations - 0.5)

    def published(self) -> "PublishedPowerIteration":
        return PublishedPowerIteration()


@dataclass(frozen=True)
class PublishedPowerIteration(Published):
    """No gradient at all."""

    def core(self, clamped: Tensor, S: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            _warn_once()
        return torch.zeros_like(S)
