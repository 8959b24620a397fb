r"""From what was captured at a head to the numbers of one row.

Everything is a median over images (of an even number the lower of the two in the middle). Eigenvalues are those of the
covariance of the features that enter the root, null ones apart, in float64. With the gradient G at the output of the
head, the share of the gradient at the features that its backward changes is

    rule_share = |g - g_exact| / |g_exact|,     g by the head's own root and precision, g_exact by `exact` in float64

for one and the same G. It is the error of the rule, or of iterations that have not converged, with that of the
precision. Of heads without a root it is empty.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from gcp.callbacks.monitor.capture import Capture, norms
from gcp.gradients.exact import Exact
from gcp.heads import Head, RootHead
from gcp.heads.root import CovarianceRoot
from gcp.heads.scaling_branch import ScalingBranch
from gcp.heads.second_moment import SecondMoment
from gcp.heads.spectral_function import CovarianceFunction
from gcp.ops.eigenvalues import conditions, covariance_eigenvalues, effective_ranks, ranks, smallest_gaps
from gcp.ops.numerics import output_dtype
from gcp.roots.root import Root
from gcp.solvers import create_root

QUANTILES = (0, 5, 25, 50, 75, 95, 100)  # percent

Numbers = dict[str, float | None]


def observe(head: Head, seen: Capture, scale: float) -> Numbers:
    """The numbers of a row by column; None where there is none.

    Args:
        head: through which the images went.
        seen: features of at least one image.
        scale: what the loss of an image was multiplied by; the norms are those of the gradient of its own loss.
    """
    x = seen.features
    assert x is not None
    eigenvalues = _spectrum(x)
    channels, samples = x.shape[1], x.shape[2] * x.shape[3]
    before_norm = None if seen.before_norm is None else _spectrum(seen.before_norm)
    return {
        **{f"q{percent}": _quantile(eigenvalues, percent) for percent in QUANTILES},
        "condition": _median(eigenvalues, conditions),
        "effective_rank": _median(eigenvalues, effective_ranks),
        "rank": _median(eigenvalues, ranks),
        "samples": samples,
        "channels": channels,
        "smallest_gap": _median(eigenvalues, smallest_gaps),
        "gradient_before": _median(seen.input_norms, lambda norm: norm / scale),
        "gradient_after": _median(seen.gradient, lambda gradient: norms(gradient) / scale),
        "rule_share": _median(seen.gradient, lambda gradient: rule_shares(head, x, gradient)),
        "condition_before_norm": _median(before_norm, conditions),
        "effective_rank_before_norm": _median(before_norm, effective_ranks),
    }


def _spectrum(x: Tensor) -> Tensor | None:
    return covariance_eigenvalues(x) if x.shape[2] * x.shape[3] > 1 else None


def _median(values: Tensor | None, of: Callable[[Tensor], Tensor]) -> float | int | None:
    """Median over the images for which the number is finite."""
    if values is None:
        return None
    numbers = of(values)
    numbers = numbers[torch.isfinite(numbers)]
    return numbers.median().item() if len(numbers) else None


def _quantile(eigenvalues: Tensor | None, percent: int) -> float | None:
    def quantiles(eigenvalues: Tensor) -> Tensor:
        return eigenvalues.masked_fill(eigenvalues == 0, torch.nan).nanquantile(percent / 100, dim=1)

    return _median(eigenvalues, quantiles)


def rule_shares(head: Head, x: Tensor, gradient: Tensor) -> Tensor:
    """Shares (B,) float64 of the gradient at features (B, d, H, W) that the backward of the head changes.

    `gradient` (B, out_features) is that at its output. NaN where the exact gradient is zero, or there is no root.
    """
    exact = _exact(head)
    if exact is None or not isinstance(head, RootHead):
        return x.new_full((len(x),), torch.nan, dtype=torch.float64)
    x = x.to(output_dtype(x))  # else the gradient of half-precision features is rounded to them
    own = _gradient(head, head.pool, x, gradient).double()
    true = _gradient(head, lambda f: exact.of_features(head.embed(f), packed=True), x.double(), gradient)
    return norms(own - true) / norms(true)


def _exact(head: Head) -> Root | None:
    """The root with the gradient of what the head computes, in float64; None where it has no root."""
    if isinstance(head, CovarianceRoot):
        return create_root("exact", precision="float64")
    if isinstance(head, SecondMoment):
        return create_root("exact", precision="float64").of_second_moment()
    if isinstance(head, CovarianceFunction):
        method = replace(head.root.method, rule=Exact())  # type: ignore[call-arg]
        return replace(head.root, method=method, precision="float64")
    if isinstance(head, ScalingBranch):  # another function of the spectrum, with its exact gradient
        return replace(head.root, precision="float64")
    return None


@torch.enable_grad()
def _gradient(head: Head, pool: Callable[[Tensor], Tensor], x: Tensor, gradient: Tensor) -> Tensor:
    """At features x, of the head with `pool` in the place of its own."""
    x = x.detach().requires_grad_()
    pooled = head.complete(pool(x), x)
    return torch.autograd.grad(pooled, x, gradient.to(pooled.dtype))[0]
