"""Feature maps to measure on: synthetic ones with the spectrum that a last ReLU leaves, those of a model or a file."""

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from gcp.engine.device import ToDevice, autocast
from gcp.engine.timm_reference import TimmReference
from gcp.errors import DataError, GCPError
from gcp.models import Classifier
from gcp.ops.covariance import check_map, check_samples
from gcp.ops.numerics import require_finite

DESCRIPTION = (
    "relu(A z), z standard normal, A = U diag(1, 1/2, ..., 1/d) scaled to unit mean variance, "
    "U random orthogonal, one per batch; positions are independent"
)


def relu_features(batch: int, channels: int, size: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """Feature map (batch, channels, size, size) on the CPU, made as `DESCRIPTION` says.

    Drawn in float64 from a generator of its own and rounded to `dtype`.
    """
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(channels, channels, generator=generator, dtype=torch.float64)
    U = torch.linalg.qr(gaussian)[0]
    scales = 1 / torch.arange(1, channels + 1, dtype=torch.float64)
    A = U * scales * (channels / scales.square().sum()).sqrt()
    z = torch.randn(batch, channels, size * size, generator=generator, dtype=torch.float64)
    return torch.relu(A @ z).reshape(batch, channels, size, size).to(dtype)


@torch.no_grad()
def capture(
    model: Classifier | TimmReference, batches: Iterable[tuple[Tensor, Tensor]], to_device: ToDevice, amp: str = "none"
) -> Tensor:
    """Maps (N, d, H, W) in float32 (float64 of a model in float64) on the CPU, the model in evaluation mode.

    Args:
        model: of ours, or of timm, whose last map is taken as it is.
        batches: images and labels as a loader gives them.
        to_device: brings them to the model.
        amp: autocast of the forward, as in training.

    Raises:
        ShapeError: a map of one position, which has no covariance.
        NonFiniteError: inf or NaN in a map.
        DataError: no images.
    """
    model.eval()
    maps = []
    for images, labels in batches:
        fed = to_device(images, labels)[0]
        with autocast(to_device.device, amp):
            x = _map(model, fed)
        maps.append(x.to("cpu", torch.promote_types(x.dtype, torch.float32)))
    if not maps:
        raise DataError("the split has no images")
    return checked(torch.cat(maps))


def _map(model: Classifier | TimmReference, images: Tensor) -> Tensor:
    if isinstance(model, Classifier):
        return model.head.reduction(model.features(images))
    return model.to_map(model.body.forward_features(images), (images.shape[2], images.shape[3]))


def checked(maps: Tensor) -> Tensor:
    """The maps, if they are feature maps with a covariance and finite."""
    check_map(maps)
    check_samples(maps.shape[2], maps.shape[3])
    require_finite(maps, "the features of sample")
    return maps


def read_features(path: str | Path) -> Tensor:
    """Maps (N, d, H, W) of a file: .npy, or a tensor that `torch.save` wrote. Nothing in the file is executed.

    Raises:
        GCPError: not there, not of these kinds, no feature maps.
    """
    path = Path(path)
    if not path.is_file():
        raise GCPError(f"--features {path}: no such file")
    try:
        if path.suffix == ".npy":
            import numpy as np

            maps = torch.from_numpy(np.load(path, allow_pickle=False))
        else:
            maps = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # numpy and torch raise a dozen kinds for a file that is not theirs
        reason = str(error).partition("\n")[0].partition(". ")[0]  # what torch says next is advice to execute the file
        raise GCPError(f"--features {path}: neither an .npy file nor a saved tensor ({reason})") from error
    if not isinstance(maps, Tensor) or not maps.is_floating_point() or not len(maps):
        raise GCPError(
            f"--features {path} needs a tensor (N, channels, height, width) of floating-point numbers, N >= 1"
        )
    return checked(maps.detach().to(torch.promote_types(maps.dtype, torch.float32)))
