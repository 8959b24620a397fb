"""Condition number of the covariance at the place where the head of a model takes it.

    condition = l_max / (smallest eigenvalue that is not null),   of the covariance of reduce(features(image))

Published figures such as 3e14 at the first epoch and 2e13 at the twenty-first (d = 256, 7x7 map) divide by the
smallest of all d eigenvalues. A map of M positions has at most M - 1 that are not null, 48 of 256 there; the others are
rounding, near the largest times the machine epsilon, and 1/eps is 4.5e15 in float64. Leaving them out gives far smaller
numbers, which say how far apart the eigenvalues are that carry a gradient.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gcp.ops.eigenvalues import conditions, covariance_eigenvalues
from gcp.ops.numerics import require_finite


def condition_numbers(x: Tensor) -> Tensor:
    """Largest over smallest non-null eigenvalue of the covariance of each map, (B, d, H, W) -> (B,) float64.

    Computed in float64 on the smaller of covariance and Gram matrix; inf where every eigenvalue is null.

    Raises:
        ShapeError: a map of one position.
        NonFiniteError: inf or NaN in a map.
    """
    require_finite(x, "where they enter the head, the features of sample")
    return conditions(covariance_eigenvalues(x))


@torch.no_grad()
def condition_number(model: nn.Module, batches: Iterable[Tensor]) -> float:
    """Median over images of the condition number, the model in evaluation mode and in its own precision.

    Args:
        model: a Classifier; its mode is put back, nothing else in it changes.
        batches: images (B, C, H, W) as the model takes them, on its device.

    Returns:
        the median (of an even number the lower of the two in the middle), inf where most maps are constant.
    """
    training = model.training
    model.eval()
    try:
        found = [condition_numbers(model.head.reduction(model.features(images))) for images in batches]  # type: ignore
    finally:
        model.train(training)
    return float(torch.cat(found).median())
