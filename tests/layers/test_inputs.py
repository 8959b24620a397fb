"""What is no tensor of real numbers, or no layer, is refused in one message by every entry of the package."""

import numpy as np
import pytest
import torch
from torch import nn

from gcp import layers
from gcp.errors import GCPError

REAL = torch.ones(2, 3)
GIVEN = {
    "householder, list": lambda: layers.householder_apply([[1.0]], torch.eye(1)),
    "householder, array": lambda: layers.householder_apply(torch.eye(2), np.eye(2)),
    "householder, complex": lambda: layers.householder_apply(torch.eye(2) + 0j, torch.eye(2)),
    "layer, array": lambda: layers.SVDLinear(3, 3)(np.ones((2, 3), "f4")),
    "layer, list": lambda: layers.SVDLinear(3, 3)([[1.0, 2.0, 3.0]]),
    "layer, complex": lambda: layers.SVDLinear(3, 3)(REAL + 0j),
    "layer, text": lambda: layers.Orthogonal(3)("x"),
    "inverse of none": lambda: layers.SVDLinear(3, 3).inverse(None),
    "convolution, whole numbers": lambda: layers.OrthogonalConv1x1(3, 3)(torch.ones(2, 3, 1, 1).int()),
    "convolution, array": lambda: layers.InvertibleConv1x1(3)(np.ones((1, 3, 2, 2))),
    "nearest, list": lambda: layers.nearest_orthonormal([[1.0]]),
    "nearest, complex": lambda: layers.nearest_orthonormal(torch.eye(2) + 0j),
    "nearest, vector": lambda: layers.nearest_orthonormal(torch.ones(2)),
    "nearest, nan": lambda: layers.nearest_orthonormal(torch.full((2, 2), float("nan"))),
    "from_matrix, list": lambda: layers.SymmetricLinear.from_matrix([[1.0]]),
    "from_linear, number": lambda: layers.SVDLinear.from_linear(5),
    "orthogonal, number": lambda: layers.orthogonal(5),
    "svd, number": lambda: layers.svd(5),
    "spectral_norm, text": lambda: layers.spectral_norm("x"),
    "spectral_norm, complex": lambda: layers.spectral_norm(nn.Linear(2, 2, dtype=torch.complex64)),
}


@pytest.mark.parametrize("call", GIVEN.values(), ids=GIVEN)
def test_refused(call):
    with pytest.raises(GCPError, match=r"is of type|is torch\.|needed|takes|allowed"):
        call()
