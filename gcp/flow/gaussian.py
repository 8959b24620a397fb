"""The baseline of a flow: one normal distribution with a full covariance, of the greatest likelihood."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from gcp.errors import DataError
from gcp.flow.density import normal_log_density


class Gaussian(nn.Module):
    """log p(x) = log N(L^(-1) (x - m); 0, I) - log det L, covariance L L^T of the images that it is fitted to.

    Args:
        batches: images (B, C, H, W), gone over once; mean and covariance are accumulated in float64.

    Raises:
        DataError: fewer images than make the covariance regular.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, batches: Iterable[Tensor]):
        super().__init__()
        count, total, products, shift = 0, torch.zeros(()), torch.zeros(()), None
        for images in batches:
            x = images.flatten(1).double()
            shift = x.mean(0) if shift is None else shift  # near the mean, so that the difference below is small
            x = x - shift
            count, total, products = count + len(x), total + x.sum(0), products + x.mT @ x
        if shift is None or count <= len(shift):
            raise DataError(f"{count} images are too few for a full covariance; it takes more than numbers in an image")
        centre = total / count
        factor, failed = torch.linalg.cholesky_ex(products / count - torch.outer(centre, centre))
        if failed:
            raise DataError("the covariance of the images is singular: a number of them is constant without noise")
        self.register_buffer("mean", shift + centre)
        self.register_buffer("factor", factor)

    def forward(self, images: Tensor) -> Tensor:
        """Log-density in nats of each image (B,), float64."""
        centred = images.flatten(1).to(self.mean) - self.mean
        z = torch.linalg.solve_triangular(self.factor, centred.mT, upper=False).mT
        return normal_log_density(z) - self.factor.diagonal().log().sum()
