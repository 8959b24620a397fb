"""An independent oracle: root and gradient by numpy's decomposition, in float64, on the channel side."""

import numpy
import pytest
import torch


def spectrum_features(d, side, eigenvalues, batch=1, mean=1.0, seed=0):
    """(B, d, side, side) float32, positive mean, with the given covariance eigenvalues (to its rounding)."""
    generator = torch.Generator().manual_seed(seed)
    M, n = side * side, len(eigenvalues)
    ones = torch.ones(batch, M, 1, dtype=torch.float64)
    noise = torch.randn(batch, M, n, generator=generator, dtype=torch.float64)
    U = torch.linalg.qr(torch.cat([ones, noise], 2)).Q[:, :, 1:]
    V = torch.linalg.qr(torch.randn(batch, d, d, generator=generator, dtype=torch.float64)).Q[:, :, :n]
    scale = (M * torch.as_tensor(eigenvalues, dtype=torch.float64)).sqrt()
    offset = mean * torch.rand(batch, d, 1, generator=generator, dtype=torch.float64)
    return ((V * scale) @ U.mT + offset).reshape(batch, d, side, side).float()


def oracle(x, G):
    """Q (B, d, d), and the gradient of <Q, G> with respect to x (B, d, H, W); null eigenvalues have weight 0."""
    x, G = x.detach().double().numpy(), G.double().numpy()
    roots, gradients = [], []
    for image, upstream in zip(x, G, strict=True):
        Xc = image.reshape(len(image), -1)
        Xc = Xc - Xc.mean(1, keepdims=True)
        spectrum, V = numpy.linalg.eigh(Xc @ Xc.T / Xc.shape[1])
        r = numpy.sqrt(numpy.where(spectrum > 1e-13 * spectrum.max(), spectrum, 0))
        total = r[:, None] + r[None, :]
        W = numpy.divide(1, total, out=numpy.zeros_like(total), where=total > 0)
        dP = V @ (W * (V.T @ (upstream + upstream.T) @ V) / 2) @ V.T
        roots.append((V * r) @ V.T)
        gradients.append((2 / Xc.shape[1] * dP @ Xc).reshape(image.shape))
    return torch.from_numpy(numpy.stack(roots)), torch.from_numpy(numpy.stack(gradients))


def saved_bytes(function, x):
    """Bytes of distinct storage that the graph of function(x) keeps for the backward."""
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = function(x)
    assert out.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.fixture
def features_of():
    """features_of(d, side, eigenvalues, batch=, mean=, seed=)."""
    return spectrum_features


@pytest.fixture
def exact():
    """exact(x, G) -> root and feature gradient."""
    return oracle


@pytest.fixture
def memory():
    """memory(function, x) -> bytes saved for the backward."""
    return saved_bytes
