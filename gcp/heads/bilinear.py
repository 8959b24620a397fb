"""`bilinear`: X X^T / M without centring, signed square root, l2 norm (B-CNN).

Lin, RoyChowdhury and Maji, ICCV 2015 (arXiv:1504.07889).
"""

import torch
from torch import Tensor
from torch.nn import functional

from gcp.heads.base import HEADS, Head, HeadKind
from gcp.ops.precision import check_precision, compute_dtype, output_dtype, outside_autocast

ROOT_OFFSET = 1e-8  # under the signed root, as published: bounds its slope at zero


def signed_root(x: Tensor) -> Tensor:
    """sign(x) sqrt(|x| + 1e-8), l2-normalised over the last dimension."""
    return functional.normalize(torch.sign(x) * torch.sqrt(x.abs() + ROOT_OFFSET), dim=-1)


class Bilinear(Head):
    """Normalised second moment, all d^2 entries; a 1x1 map is allowed."""

    least_samples = 1

    def __init__(self, in_channels: int, dim: int | None = None, reduction: str = "conv", precision: str | None = None):
        check_precision(precision)
        super().__init__(in_channels, dim, reduction)
        self.precision = precision
        self.out_features = self.channels**2

    def pool(self, x: Tensor) -> Tensor:
        with outside_autocast(x):
            X = x.flatten(2).to(compute_dtype(x, self.precision, "float32"))
            return signed_root((X @ X.mT / X.shape[2]).flatten(1)).to(output_dtype(x))


HEADS.add(
    "bilinear",
    HeadKind(Bilinear, takes=("precision",)),
    summary="X X^T / M, signed root, l2 norm",
    paper="Lin et al., ICCV 2015",
)
