"""MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019) on a batch, without hidden state."""

import torch
import torch.nn.functional as F
from torch import Tensor

from gcp.data.seeds import MIX, hashed, preserved, reseed, uniform
from gcp.errors import OptionError


def mix(
    images: Tensor, labels: Tensor, num_classes: int, mixup_alpha: float, cutmix_alpha: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Mix each image with its neighbour in the batch; the inputs stay as they are.

    images (B, C, H, W) floating point, labels (B,) int64 -> images of the same shape and type, soft labels
    (B, num_classes) float32. An alpha of 0 leaves its method out; of two methods `seed` picks one with equal
    chance; of none, and in an empty batch, the labels are one-hot. The random state of the process stays as it is.
    Raises OptionError for a negative alpha.

    Examples:
        >>> import gcp, torch
        >>> images, labels = gcp.data.mix(torch.randn(4, 3, 8, 8), torch.arange(4), 4, 0.2, 0, seed=1)
        >>> labels.sum(1)
        tensor([1., 1., 1., 1.])
    """
    for name, alpha in (("mixup", mixup_alpha), ("cutmix", cutmix_alpha)):
        if not 0 <= alpha < float("inf"):
            raise OptionError(f"{name} must be 0 (off) or a positive number; got {alpha!r}.")
    if len(images) == 0 or (mixup_alpha == 0 and cutmix_alpha == 0):
        return images, F.one_hot(labels, num_classes).to(torch.float32)

    from torchvision.transforms import v2

    by_mixup = cutmix_alpha == 0 or (mixup_alpha > 0 and uniform(MIX, seed)[0] < 0.5)
    kind, alpha = (v2.MixUp, mixup_alpha) if by_mixup else (v2.CutMix, cutmix_alpha)
    with preserved():
        reseed(hashed(MIX, seed, 1)[0])
        return kind(alpha=alpha, num_classes=num_classes)(images, labels)
