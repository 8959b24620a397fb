"""Blocks of 2x2 pixels as channels, and back: no number changes, so the log-determinant is zero.

The order is that of `torch.nn.functional.pixel_unshuffle`, which cannot do it for no image at all.
"""

from torch import Tensor


def squeeze(x: Tensor) -> Tensor:
    """(B, C, H, W) with even sides to (B, 4 C, H / 2, W / 2)."""
    B, C, H, W = x.shape
    return x.reshape(B, C, H // 2, 2, W // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(B, 4 * C, H // 2, W // 2)


def unsqueeze(x: Tensor) -> Tensor:
    """(B, 4 C, H, W) to (B, C, 2 H, 2 W)."""
    B, C, H, W = x.shape
    return x.reshape(B, C // 4, 2, 2, H, W).permute(0, 1, 4, 2, 5, 3).reshape(B, C // 4, 2 * H, 2 * W)
